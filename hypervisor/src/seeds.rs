//! A machine that begins anew finds other random bytes in its device tree than in its last life: whoever saw where its
//! kernel lay then (a crash report says it) does not know where it lies now.

use hypervisor_fdt::seeds::value_at;
use vcpu::smccc::trng::Entropy;
use vcpu_board::RAM_BASE;

use crate::entropy::Shared;
use crate::vm::Vm;

/// Draws the seeds anew, once the machine's files are in place. Without randomness they stay as they were.
pub fn renew(vm: &Vm) {
    let offset = vm.dtb.wrapping_sub(RAM_BASE);
    let Some(tree) = vm.files.iter().find(|file| file.offset == offset) else {
        return;
    };
    let (Some([a, b, c]), Some([d, e, _])) = (Shared.draw(), Shared.draw()) else {
        return;
    };
    let wanted: [(&[u8], u32, &[u64]); 2] = [
        (b"kaslr-seed\0", 8, &[a]),
        (b"rng-seed\0", 32, &[b, c, d, e]),
    ];
    for (name, length, words) in wanted {
        let Some(at) = value_at(tree.bytes, name, length) else {
            continue;
        };
        for (place, word) in (offset.saturating_add(at as u64)..).step_by(8).zip(words) {
            // Inside the file, which fits.
            let _ = vm.ram.write(place, &word.to_le_bytes());
        }
    }
}
