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
        let program = folder.join("qemu");
        fs::write(&program, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
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
            interactive: false,
            limit,
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn watched(script: &Script, limit: Option<Duration>) -> (Ending, Vec<String>) {
    let mut lines = Vec::new();
    let watching = script.launch(limit).watch(|line| {
        lines.push(line.to_owned());
        false
    });
    (watching.unwrap(), lines)
}

#[test]
fn lines_and_the_end_are_seen() {
    let script = Script::new("end", "printf 'xdv | a\\r\\nalpha | b'; exit 0");
    assert_eq!(
        watched(&script, None),
        (
            Ending::ByItself,
            vec!["xdv | a".to_owned(), "alpha | b".to_owned()]
        )
    );
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
    let (ending, lines) = watched(&script, Some(Duration::from_millis(300)));
    assert_eq!((ending, lines), (Ending::TimedOut, vec!["here".to_owned()]));
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
