//! What devices of guests draw on that is EL2's own: random numbers, and forgetting.

use hypervisor_arch::reach::Reach;
use stage2_addr::Ipa;
use vcpu::smccc::trng::Entropy as _;
use virtio::GuestMemory as _;
use virtio::balloon::Forget;
use virtio::rng::Entropy;

use crate::entropy;

/// EL2's own generator. A device that has it was made only because it works.
pub struct Pool;

impl Pool {
    /// Whether there are random numbers at all.
    pub fn is_there() -> bool {
        entropy::Shared.draw().is_some()
    }
}

impl Entropy for Pool {
    fn fill(&mut self, into: &mut [u8]) {
        for chunk in into.chunks_mut(24) {
            let words = entropy::Shared.draw().unwrap_or_default();
            let bytes = words.iter().flat_map(|word| word.to_le_bytes());
            for (to, from) in chunk.iter_mut().zip(bytes) {
                *to = from;
            }
        }
    }
}

/// A guest's memory, to be forgotten.
pub struct Pages(pub Reach);

impl Forget for Pages {
    fn forget(&mut self, at: Ipa, len: u64) {
        const ZEROES: [u8; 512] = [0; 512];
        for offset in (0..len).step_by(ZEROES.len()) {
            // Whole pages of the guest's own, as the device has seen to.
            let _ = at
                .checked_add(offset)
                .and_then(|at| self.0.write(at, &ZEROES));
        }
    }
}
