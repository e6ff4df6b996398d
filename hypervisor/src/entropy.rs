//! Where the random bits come from that guests ask for.

use hypervisor_arch::random;
use spin::Mutex;
use vcpu::smccc::trng::{Entropy, Pool};

/// One pool for all guests: what one of them has seen tells nothing of what another gets.
static POOL: Mutex<Pool> = Mutex::new(Pool::new(None));

/// Keys the pool with what the loader left.
pub fn seed(seed: Option<[u8; 32]>) {
    *POOL.lock() = Pool::new(seed);
}

/// The pool, and this CPU's own generator.
#[derive(Clone, Copy, Debug)]
pub struct Shared;

impl Entropy for Shared {
    // Once, for all who draw.
    #[inline(never)]
    fn draw(&mut self) -> Option<[u64; 3]> {
        POOL.lock().draw(random::number)
    }
}
