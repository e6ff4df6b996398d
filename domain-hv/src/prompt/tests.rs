use super::*;
use proptest::prelude::*;
use std::string::{String, ToString};
use std::vec::Vec;

/// What came of some bytes: the guest's, and the commands.
fn split(bytes: &[u8]) -> (Vec<u8>, Vec<String>) {
    let mut prompt = Prompt::default();
    let (mut guest, mut commands) = (Vec::new(), Vec::new());
    for byte in bytes {
        match prompt.hear(*byte) {
            Heard::Guest(byte) => guest.push(byte),
            Heard::Command(text) => commands.push(text.to_string()),
            Heard::Prompt(_) | Heard::Erased(..) | Heard::Closed | Heard::Nothing => {}
        }
    }
    (guest, commands)
}

fn guest_gets(bytes: &[u8]) -> Vec<u8> {
    let (guest, commands) = split(bytes);
    assert_eq!(commands, [""; 0], "{bytes:?}");
    guest
}

fn commands_of(bytes: &[u8]) -> Vec<String> {
    let (guest, commands) = split(bytes);
    assert_eq!(guest, b"", "{bytes:?}");
    commands
}

#[test]
fn every_byte_but_the_chord_is_the_guest_s() {
    let all: Vec<u8> = (0..=255).filter(|byte| *byte != CHORD).collect();
    assert_eq!(guest_gets(&all), all);
}

#[test]
fn a_command_ends_with_its_line_and_the_guest_has_the_keyboard_again() {
    let (guest, commands) = split(b"ls\r\x1dlist\rpwd\r\x1dstop a\npwd\n");
    assert_eq!(guest, b"ls\rpwd\rpwd\n");
    assert_eq!(commands, ["list", "stop a"]);
    // A line feed right behind a return is its other half.
    assert_eq!(split(b"\x1dlist\r\n\n").0, b"\n");
    assert_eq!(split(b"\x1dlist\n\n").0, b"\n");
}

#[test]
fn a_command_can_be_corrected_and_left() {
    assert_eq!(commands_of(b"\x1dlisr\x08t\r"), ["list"]);
    assert_eq!(
        commands_of(b"\x1d\x7f\x7flist\x7f\x7f\x7f\x7f\x7fhelp\r"),
        ["help"]
    );
    assert_eq!(commands_of(b"\x1dstop a\x15list\r"), ["list"]);
    for leave in [
        b"\x1dstop\x03".as_slice(),
        b"\x1d\x04",
        b"\x1d\r",
        b"\x1d\n",
        b"\x1d\x15\r",
    ] {
        assert_eq!(guest_gets(&[leave, b"x"].concat()), b"x");
    }
}

#[test]
fn escape_leaves_and_a_key_s_sequence_reaches_nobody() {
    assert_eq!(guest_gets(b"\x1dst\x1bx"), b"x");
    assert_eq!(guest_gets(b"\x1dst\x1b[Ax"), b"x");
    assert_eq!(guest_gets(b"\x1d\x1b[1;5Dx\x1b[A"), b"x\x1b[A");
    assert_eq!(guest_gets(b"\x1d\x1bOPx"), b"x");
    assert_eq!(commands_of(b"\x1d\x1b\x1dlist\r"), ["list"]);
    assert_eq!(commands_of(b"\x1d\x1b[\x1dlist\r"), ["list"]);
}

#[test]
fn the_chord_begins_anew_and_can_be_typed_at_the_guest() {
    assert_eq!(commands_of(b"\x1dstop al\x1dlist\r"), ["list"]);
    assert_eq!(commands_of(b"\x1d\x1dlist\r"), ["list"]);
    assert_eq!(guest_gets(b"\x1d\x1d\r"), b"\x1d");
    assert_eq!(guest_gets(b"\x1d\x1d\x1d\rx"), b"\x1dx");
    // Not after something was typed.
    assert_eq!(guest_gets(b"\x1dst\x1d\r"), b"");
}

#[test]
fn what_is_shown_is_what_was_typed() {
    let mut prompt = Prompt::new();
    assert_eq!(prompt.hear(CHORD), Heard::Prompt(""));
    assert_eq!(prompt.hear(b'l'), Heard::Prompt("l"));
    assert_eq!(prompt.hear(0x00), Heard::Nothing);
    assert_eq!(prompt.hear(0xff), Heard::Nothing);
    assert_eq!(prompt.hear(b'i'), Heard::Prompt("li"));
    assert_eq!(prompt.hear(DELETE), Heard::Erased("l", 1));
    assert_eq!(prompt.hear(KILL_LINE), Heard::Erased("", 1));
    assert_eq!(prompt.hear(BACKSPACE), Heard::Nothing);
    assert_eq!(prompt.hear(b'x'), Heard::Prompt("x"));
    assert_eq!(prompt.hear(CHORD), Heard::Erased("", 1));
    assert_eq!(prompt.hear(b'\r'), Heard::Closed);
}

#[test]
fn a_command_has_a_bound() {
    let long = [&[CHORD], [b'x'; LINE_MAX + 9].as_slice(), b"\r"].concat();
    assert_eq!(commands_of(&long), ["x".repeat(LINE_MAX)]);
}

#[test]
fn commands_are_words_that_may_be_cut_short() {
    assert_eq!(parse("list"), Ok(Request::List));
    assert_eq!(parse("  l "), Ok(Request::List));
    assert_eq!(parse("h"), Ok(Request::Help));
    assert_eq!(parse("stats"), Ok(Request::Stats(None)));
    assert_eq!(parse("stat beta"), Ok(Request::Stats(Some("beta"))));
    assert_eq!(parse("a  beta"), Ok(Request::Attach("beta")));
    for (name, command) in [
        ("stop", Command::Stop),
        ("start", Command::Start),
        ("restart", Command::Restart),
        ("pause", Command::Pause),
        ("resume", Command::Resume),
    ] {
        let text = std::format!("{name} beta");
        assert_eq!(parse(&text), Ok(Request::Life(command, "beta")));
        let cut = std::format!("{} beta", &name[..name.len() - 1]);
        assert_eq!(parse(&cut), Ok(Request::Life(command, "beta")));
    }
}

#[cfg(feature = "balloon")]
#[test]
fn a_balloon_is_asked_for_a_size_as_machine_files_have_it() {
    assert_eq!(parse("balloon beta"), Ok(Request::Balloon("beta", None)));
    for (word, bytes) in [
        ("0", 0),
        ("0M", 0),
        ("4K", 4096),
        ("64M", 64 << 20),
        ("007M", 7 << 20),
        ("1G", 1 << 30),
        ("17179869183G", u64::MAX >> 30 << 30),
    ] {
        let text = std::format!("b beta {word}");
        assert_eq!(parse(&text), Ok(Request::Balloon("beta", Some(bytes))));
    }
    for word in [
        "64",
        "4096",
        "6K",
        "64m",
        "64MB",
        "-64M",
        "+64M",
        "1.5G",
        "M",
        "00",
        "64M,",
        "17179869184G",
    ] {
        let text = std::format!("balloon beta {word}");
        assert_eq!(parse(&text), Err(Complaint::NoSize(word)), "{word}");
    }
    let said = |text| parse(text).unwrap_err().to_string();
    assert_eq!(said("balloon"), "balloon: which guest?");
    assert_eq!(said("balloon a 64M b"), "balloon: `b` is too much");
    assert_eq!(
        said("balloon a lots"),
        "balloon: `lots` is no size; write it as 64M, 1G or 512K, in whole pages of 4K, or 0"
    );
}

#[test]
fn complaints_say_what_there_is() {
    let said = |text| parse(text).unwrap_err().to_string();
    assert_eq!(said(""), "there is no command (help says which there are)");
    #[cfg(feature = "balloon")]
    assert_eq!(
        said("lsit"),
        "no command `lsit`; there are: list, attach, stop, start, restart, pause, resume, stats, balloon, help"
    );
    assert_eq!(said("sta"), "`sta` could be: start, stats");
    assert_eq!(said("re x"), "`re` could be: restart, resume");
    assert_eq!(said("stop"), "stop: which guest?");
    assert_eq!(said("att"), "attach: which guest?");
    assert_eq!(said("stop a b"), "stop: `b` is too much");
    assert_eq!(said("list a"), "list: `a` is too much");
    assert_eq!(said("stats a b"), "stats: `b` is too much");
    let names = ["alpha", "beta"];
    assert_eq!(guest("beta", &names), Ok(1));
    let none = guest("alp", &names).unwrap_err().to_string();
    assert_eq!(none, "no guest `alp`; there are: alpha, beta");
}

#[test]
fn help_names_every_command() {
    let named = |line: &&str| VERBS.iter().any(|name| line.starts_with(name));
    assert_eq!(HELP.iter().filter(|line| named(line)).count(), VERBS.len());
    for name in VERBS {
        assert!(HELP.iter().any(|line| line.starts_with(name)), "{name}");
    }
}

proptest! {
    /// Whatever is typed: text is printable and bounded, and a chord, a command and a return are always a command.
    #[test]
    fn no_bytes_keep_a_command_from_being_heard(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(CHORD), Just(b'\r'), Just(ESCAPE)], 0..300),
    ) {
        let mut prompt = Prompt::new();
        for byte in bytes {
            let before = prompt.length;
            match prompt.hear(byte) {
                Heard::Prompt(text) | Heard::Command(text) => {
                    prop_assert!(text.len() <= LINE_MAX);
                    prop_assert!(text.bytes().all(|c| matches!(c, 0x20..=0x7e)));
                    let _ = parse(text).map_err(|complaint| complaint.to_string());
                }
                Heard::Erased(text, count) => prop_assert_eq!(text.len() + count, before),
                Heard::Guest(_) | Heard::Closed | Heard::Nothing => {}
            }
        }
        for byte in *b"\x1dlist" {
            let _ = prompt.hear(byte);
        }
        prop_assert_eq!(prompt.hear(b'\r'), Heard::Command("list"));
    }

    /// Without the chord nothing but line feeds that belong to a command is kept from the guest.
    #[test]
    fn the_guest_loses_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let plain: Vec<u8> = bytes.into_iter().filter(|byte| *byte != CHORD).collect();
        prop_assert_eq!(guest_gets(&plain), plain);
    }

    #[test]
    fn any_text_has_an_answer(text in "\\PC{0,80}") {
        let _ = parse(&text).map_err(|complaint| complaint.to_string());
    }
}
