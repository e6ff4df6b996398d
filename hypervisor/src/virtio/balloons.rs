//! Guests' balloons, as their operator sees them.

use hypervisor_arch::reach::Reach;
use virtio::Served;
use virtio::balloon::{Refusal, Standing, Wish};

use super::Devices;

impl Devices {
    /// Does what the operator wants of the balloon of a guest with so much memory, from any CPU, and says how it is then.
    /// No longer than its device serves a piece, for whose lock this waits.
    ///
    /// # Errors
    /// There is none, or it cannot be wanted.
    pub fn balloon(&self, wish: Wish, memory: u64) -> Result<Standing, Refusal> {
        let slot = self.balloon.and_then(|number| self.slot(number));
        let slot = slot.ok_or(Refusal::NoBalloon)?;
        let mut standing = Err(Refusal::NoBalloon);
        let (_, raised) = self.with_leave(slot, &mut |transport, device, env| match transport
            .balloon::<Reach>(device, wish, memory, env)
        {
            Ok((served, is)) => {
                standing = Ok(is);
                served
            }
            Err(refusal) => {
                standing = Err(refusal);
                Served::NOTHING
            }
        });
        if raised != 0 {
            self.post(raised);
        }
        standing
    }
}
