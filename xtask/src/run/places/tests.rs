use super::*;

const LINUX: &str = "\
ffff800008000000 T _text
ffff800008010800 T vectors
ffff800008012800 t __bp_harden_el1_vectors
ffff800008014000 T cpu_do_idle
ffff800008015000 T panic
ffff800008016000 T _etext
";

fn guest(name: &str, kernel_at: u64, map: &str) -> Guest {
    let symbols = Symbols::read(&Rc::new(map.as_bytes().to_vec())).unwrap();
    Guest::new(name.to_owned(), kernel_at, Source::Read(Rc::new(symbols)))
}

fn places() -> Places {
    Places::of(vec![
        guest("linux", 0x4020_0000, LINUX),
        guest(
            "bad",
            0x4000_0000,
            "00000000 T _text\n00001000 T _ZN3bad4main17h0123456789abcdefE\n",
        ),
    ])
}

const SLIDE: u64 = 0x2f00_0123_0000;

fn moved(address: u64) -> String {
    format!("{:#x}", 0xffff_8000_0800_0000 + SLIDE + address)
}

#[test]
fn a_kernel_that_moved_itself_is_found_by_its_vectors() {
    // On a CPU with and one without Spectre-BHB, whose vectors are others.
    for vectors in [0x1_0800, 0x1_2800, 0x1_3000] {
        let mut places = places();
        let line = format!(
            "xdv |   linux lane 1: pc {}, vbar {}, called from {} {} 0x12",
            moved(0x1_4004),
            moved(vectors),
            moved(0x1_5184),
            moved(0x1_5000)
        );
        assert_eq!(
            places.explain(&line),
            [
                format!(
                    "xdv |   linux lane 1: pc {} <cpu_do_idle+0x4>, vbar {}",
                    moved(0x1_4004),
                    moved(vectors)
                ),
                format!("xdv |     called from {} panic+0x184", moved(0x1_5184)),
                format!(
                    "xdv |     called from {} cpu_do_idle+0x1000",
                    moved(0x1_5000)
                ),
                "xdv |     called from 0x12".to_owned(),
            ]
        );
        // What it was refused belongs to the same report.
        let next = format!(
            "xdv |   linux lane 1: esr 0x5a000000 at pc {}",
            moved(0x1_5000)
        );
        assert_eq!(
            places.explain(&next),
            [format!(
                "xdv |   linux lane 1: esr 0x5a000000 (HVC #0) at pc {} <panic+0x0>",
                moved(0x1_5000)
            )]
        );
        // In its next life it may lie elsewhere.
        places.explain("xdv | guest linux: restarting: it asked for a reset");
        assert_eq!(places.explain(&next)[0].matches('<').count(), 0);
    }
}

#[test]
fn a_kernel_is_known_before_it_moves_and_where_it_lies() {
    let mut places = places();
    assert_eq!(
        places.explain("xdv |   linux lane 0: pc 0x40215010, vbar 0x0"),
        ["xdv |   linux lane 0: pc 0x40215010 <panic+0x10>, vbar 0x0"]
    );
    assert_eq!(
        places.explain("xdv | guest bad: still running after 6 ms: lane 0 at pc 0x40001a3c with interrupts masked"),
        ["xdv | guest bad: still running after 6 ms: lane 0 at pc 0x40001a3c <bad::main+0xa3c> with interrupts masked"]
    );
    assert_eq!(
        places.explain("xdv | guest bad: stopped: an exit that has no answer (ESR_EL2 0x96000010)"),
        [
            "xdv | guest bad: stopped: an exit that has no answer (ESR_EL2 0x96000010 (data abort: external abort, read))"
        ]
    );
}

#[test]
fn what_could_be_two_things_is_called_nothing() {
    let map = "40000000 T _text\n40001000 T one\n40002000 T two\n40003000 T three\n";
    let mut places = Places::of(vec![guest("raw", 0x4000_1000, map)]);
    let line = "xdv |   raw lane 0: pc 0x40002004, vbar 0x0";
    assert_eq!(places.explain(line), [line]);
}

#[test]
fn guests_lines_and_other_lines_stay_as_they_are() {
    let mut places = places();
    for line in [
        "linux | xdv |   bad lane 0: pc 0x40001a3c",
        "bad | pc 0x40001a3c",
        "xdv | guest badly: stopped: at pc 0x40001a3c",
        "xdv | all guests ended",
        "",
    ] {
        assert_eq!(places.explain(line), [line]);
    }
    assert_eq!(
        places.explain("xdv |   esr 0x96000010, far 0x0"),
        ["xdv |   esr 0x96000010 (data abort: external abort, read), far 0x0"]
    );
}

#[test]
fn a_file_without_symbols_names_nothing() {
    for path in ["/nowhere", file!()] {
        let guest = Guest::new("x".to_owned(), 0, Source::File(PathBuf::from(path)));
        assert_eq!(guest.name_of(0), None);
    }
}
