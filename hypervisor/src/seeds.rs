//! A machine that begins anew finds other random bytes in its device tree than in its last life: whoever saw where its
//! kernel lay then (a crash report says it) does not know where it lies now.

use hypervisor_fdt::seeds::value_at;
use vcpu::smccc::trng::Entropy;
use vcpu_board::RAM_BASE;

use crate::entropy::Shared;
use crate::vm::Vm;

/// Draws the seeds anew, once the machine's files are in place. Without randomness they stay as they were.
#[cold]
#[inline(never)]
pub fn renew(vm: &Vm) {
    let offset = vm.dtb.wrapping_sub(RAM_BASE);
    let Some(tree) = vm.files.iter().find(|file| file.offset == offset) else {
        return;
    };
    let mut bytes = [[0; 24]; 2];
    for half in &mut bytes {
        let Some(drawn) = Shared.draw() else { return };
        for (chunk, word) in half.as_chunks_mut().0.iter_mut().zip(drawn) {
            *chunk = word.to_le_bytes();
        }
    }
    let (kaslr, rest) = bytes.as_flattened().split_at(8);
    let (rng, _) = rest.split_at(32);
    for (name, value) in [(&b"kaslr-seed\0"[..], kaslr), (b"rng-seed\0", rng)] {
        if let Some(at) = value_at(tree.bytes, name, value.len()) {
            // Inside the file, which fits.
            let _ = vm.ram.write(offset.saturating_add(at as u64), value);
        }
    }
}
