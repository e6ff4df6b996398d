//! A shell script stands in for QEMU: what matters here is lines, ends and time.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::qemu::Version;

/// A launch of a script; the folder is removed when it is dropped.
struct Script(PathBuf);

impl Script {
    fn new(name: &str, body: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("xdv-launch-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (text, program) = (folder.join("text"), folder.join("qemu"));
        fs::write(&text, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
        // A program that is open for writing is not run (ETXTBSY), and a child that another thread has just forked
        // has open what this process has. So it is another process that writes it.
        let copied = Command::new("cp")
            .arg("-p")
            .arg(&text)
            .arg(&program)
            .status();
        assert!(copied.unwrap().success());
        Self(folder)
    }

    fn launch(&self, limit: Option<Duration>) -> Launch {
        Launch {
            qemu: Qemu {
                program: self.0.join("qemu"),
                version: Version::default(),
                unpacked: None,
            },
            cpu: "max".to_owned(),
            smp: 3,
            memory: "256M".to_owned(),
            icount: false,
            files: Files {
                image: "Image".into(),
                bundle: "bundle.cpio".into(),
            },
            extra: vec!["-d".to_owned(), "int".to_owned()],
            input: Input::None,
            limit,
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Everything that was seen, in its order; what was not a whole line yet ends with `...`.
#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    /// What is there once an unfinished line was seen.
    flag: Option<PathBuf>,
}

impl Viewer for Seen {
    fn line(&mut self, line: &str) -> bool {
        self.lines.push(line.to_owned());
        false
    }

    fn unfinished(&mut self, line: &str) {
        self.lines.push(format!("{line}..."));
        if let Some(flag) = &self.flag {
            fs::write(flag, "").unwrap();
        }
    }
}

fn watched(script: &Script, limit: Option<Duration>) -> (Ending, Vec<String>) {
    let mut seen = Seen {
        flag: Some(script.0.join("seen")),
        ..Seen::default()
    };
    let ending = script.launch(limit).watch(&mut seen, &[]);
    (ending.unwrap(), seen.lines)
}

#[test]
fn lines_and_the_end_are_seen() {
    let script = Script::new("end", "printf 'xdv | a\\r\\nalpha | b'; exit 0");
    let (ending, mut lines) = watched(&script, None);
    // On a busy host the last line may stand long enough to be seen before the end makes it whole.
    lines.retain(|line| line != "alpha | b...");
    assert_eq!(ending, Ending::ByItself);
    assert_eq!(lines, ["xdv | a", "alpha | b"]);
}

#[test]
fn an_emulator_that_fails_is_told_apart() {
    let script = Script::new("fail", "echo first >&2; echo no such CPU >&2; exit 1");
    assert_eq!(
        watched(&script, None),
        (Ending::Failed("no such CPU".to_owned()), vec![])
    );
}

#[test]
fn a_machine_that_never_ends_is_ended() {
    let script = Script::new("hang", "echo here; exec sleep 600");
    // A busy host may not have begun with the script when the first limit ends it.
    for limit in [300, 3_000, 60_000].map(Duration::from_millis) {
        let (ending, lines) = watched(&script, Some(limit));
        assert_eq!(ending, Ending::TimedOut);
        if !lines.is_empty() {
            assert_eq!(lines, ["here"]);
            return;
        }
    }
    panic!("nothing was said");
}

#[test]
fn a_prompt_is_seen_while_it_waits() {
    let script = Script::new(
        "prompt",
        "printf 'a | # '; until [ -e \"${0%/*}/seen\" ]; do sleep 0.01; done; echo ls; exit 0",
    );
    assert_eq!(
        watched(&script, Some(Duration::from_secs(600))).1,
        ["a | # ...".to_owned(), "a | # ls".to_owned()]
    );
}

/// The script is a hypervisor: it reads the chord and a command, and answers in lines between those of a guest.
#[test]
fn commands_reach_the_serial_line_and_answers_the_client() {
    use std::io::Write;
    let script = Script::new(
        "control",
        "echo 'xdv | boot: 1 ticks'\n\
         while command=$(dd bs=1 count=6 2>/dev/null | tr '\\035\\r' '<>') && [ -n \"$command\" ]; do\n\
         echo 'alpha | busy'; echo \"xdv | ctl: got $command\"; echo 'xdv | ctl: ok'\n\
         [ \"$command\" = '<exit>' ] && exit 0; done",
    );
    let path = script.0.join("socket");
    let socket = Socket::open(&path).unwrap();
    let client = thread::spawn(move || {
        let ask = |command: &str| {
            let mut run = std::os::unix::net::UnixStream::connect(&path).unwrap();
            writeln!(run, "{command}").unwrap();
            let answer: Vec<String> = BufReader::new(run).lines().map(Result::unwrap).collect();
            answer
        };
        [ask("list"), ask("exit")]
    });
    let mut seen = Seen::default();
    let ending = script
        .launch(Some(Duration::from_secs(600)))
        .watch(&mut seen, &[socket]);
    assert_eq!(ending.unwrap(), Ending::ByItself, "{:?}", seen.lines);
    let [list, exit] = client.join().unwrap();
    assert_eq!(list, ["| got <list>", "ok"]);
    assert_eq!(exit, ["| got <exit>", "ok"]);
}

#[test]
fn the_command_line_is_what_the_readme_promises() {
    let script = Script::new("words", "");
    let mut launch = script.launch(None);
    launch.icount = true;
    let words: Vec<String> = launch
        .command()
        .get_args()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    assert_eq!(
        words.join(" "),
        "-M virt,virtualization=on,gic-version=3 -nographic -nodefaults -nic none -serial stdio -monitor none \
         -cpu max -smp 3 -m 256M -icount shift=0,sleep=off -kernel Image -initrd bundle.cpio -d int"
    );
}
