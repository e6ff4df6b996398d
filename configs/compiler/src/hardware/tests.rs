use super::*;

const VIRT: &[u8] = include_bytes!("../../../../hypervisor/fdt/src/fixtures/qemu-7.2-smp4.dtb");
const BOARD: &[u8] = include_bytes!("../../tests/fixtures/board.dtb");

fn paths(hardware: &Hardware, word: &str) -> Vec<String> {
    let called = hardware.called(word);
    let path = |index: usize| hardware.node(index).unwrap().path.clone();
    called.into_iter().map(path).collect()
}

#[test]
fn words_are_aliases_paths_and_names_in_this_order() {
    let board = Hardware::read(BOARD).unwrap();
    assert_eq!(paths(&board, "serial1"), ["/soc/serial@101000"]);
    assert_eq!(paths(&board, "/soc/serial@101000"), ["/soc/serial@101000"]);
    assert_eq!(paths(&board, "serial@101000"), ["/soc/serial@101000"]);
    assert_eq!(
        paths(&board, "dma-controller"),
        ["/soc/dma-controller@130000"]
    );
    assert_eq!(paths(&board, "/soc/ethernet"), ["/soc/ethernet@140000"]);
    assert_eq!(paths(&board, "/soc/serial").len(), 3);
    assert_eq!(paths(&board, "serial").len(), 3);
    for nothing in [
        "",
        "/",
        "//",
        "nowhere",
        "/ethernet",
        "soc/ethernet",
        "/soc/ethernet/",
        "@140000",
        "/soc/soc",
    ] {
        assert_eq!(paths(&board, nothing), [""; 0], "{nothing:?}");
    }
    let console = board.node(board.console().unwrap()).unwrap();
    assert_eq!(console.path, "/soc/serial@100000");
    let virt = Hardware::read(VIRT).unwrap();
    let console = virt.node(virt.console().unwrap()).unwrap();
    assert_eq!(console.path, "/pl011@9000000");
}

#[test]
fn any_cut_and_any_changed_byte_is_no_panic() {
    for tree in [VIRT, BOARD] {
        for cut in (0..tree.len()).step_by(7) {
            assert!(Hardware::read(&tree[..cut]).is_err());
        }
        for at in (0..tree.len()).step_by(3) {
            let mut damaged = tree.to_vec();
            damaged[at] ^= 0x81;
            let Ok(hardware) = Hardware::read(&damaged) else {
                continue;
            };
            let _ = (hardware.console(), hardware.aliases());
            for (index, _) in hardware.nodes() {
                let _ = (
                    hardware.registers(index),
                    hardware.line(index),
                    hardware.clocks(index),
                );
            }
        }
    }
}

#[test]
fn registers_are_whole_pages_from_outside() {
    assert_eq!(pages(&(0x1000..0x1018)), Some(0x1000..0x2000));
    assert_eq!(pages(&(0x1fff..0x2001)), Some(0x1000..0x3000));
    assert_eq!(pages(&(u64::MAX - 5..u64::MAX)), None);
}
