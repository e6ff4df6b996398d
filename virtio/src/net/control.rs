//! Commands of the driver: virtio 1.3, 5.1.6.5.

use super::{Net, NetFeatures};
use crate::chain::{Chain, Cursor};
use crate::device::{Env, Served};
use crate::memory::GuestMemory;
use crate::switch::filter::{Addresses, Mode};
use crate::switch::frame::Mac;
use crate::switch::receive::Receive;

const OK: u8 = 0;
const ERR: u8 = 1;

/// Commands that are carried out before others have their turn.
const BUDGET: usize = 16;
/// Addresses in a table that is believed to be one: more than any driver has, and soon counted.
const MAX_COUNT: u32 = 1024;

impl<M: GuestMemory> Net<'_, M> {
    /// Carries out commands.
    #[inline(never)]
    pub(super) fn control(&mut self, queue: u16, env: &mut Env<'_, M>) -> Served {
        let mut served = Served::default();
        let Some(mut ring) = self
            .rings
            .get_mut(usize::from(queue))
            .and_then(Option::take)
        else {
            return served;
        };
        served.more = true;
        for _ in 0..BUDGET {
            match ring.pop(&env.memory, &mut self.chain) {
                Ok(true) => {}
                Ok(false) if ring.listen(&env.memory) => continue,
                Ok(false) => {
                    served.more = false;
                    break;
                }
                Err(_) => {
                    served.more = false;
                    served.broken = true;
                    break;
                }
            }
            env.popped(queue, &self.chain);
            let done = self.command(&self.chain, &env.memory);
            let answer = if done.is_some() { OK } else { ERR };
            let written = self.chain.writable().write(&env.memory, &[answer]);
            let written = u32::from(written.is_some());
            env.push(queue, &mut ring, &self.chain, written);
        }
        served.used = ring.publish(&env.memory);
        if let Some(place) = self.rings.get_mut(usize::from(queue)) {
            *place = Some(ring);
        }
        served
    }

    /// Carries out a command. `None`, with nothing changed, if it makes no sense.
    fn command(&self, chain: &Chain, memory: &M) -> Option<()> {
        let mut at = chain.readable();
        let mut command = [0; 2];
        at.read(memory, &mut command)?;
        let has = |feature| self.features.contains(feature).then_some(());
        match command {
            [0, mode @ 0..=1] => {
                has(NetFeatures::CTRL_RX)?;
                self.mode(mode, &mut at, memory)
            }
            [0, mode @ 2..=5] => {
                has(NetFeatures::CTRL_RX_EXTRA)?;
                self.mode(mode, &mut at, memory)
            }
            [1, 0] => {
                has(NetFeatures::CTRL_RX)?;
                let unicast = table(&mut at, memory)?;
                let multicast = table(&mut at, memory)?;
                self.filter(|receive| {
                    receive.filter.unicast = unicast;
                    receive.filter.multicast = multicast;
                })
            }
            [1, 1] => {
                has(NetFeatures::CTRL_MAC_ADDR)?;
                self.address(&mut at, memory)
            }
            [4, 0] => {
                has(NetFeatures::MQ)?;
                let [pairs, 0] = bytes(&mut at, memory)? else {
                    return None;
                };
                if !(1..=self.pairs).contains(&pairs) {
                    return None;
                }
                self.receiving(|receive| receive.pairs = pairs)
            }
            [5, 0] => {
                has(NetFeatures::CTRL_GUEST_OFFLOADS)?;
                let wanted = u64::from_le_bytes(bytes(&mut at, memory)?);
                let possible = self.features & NetFeatures::GUEST_OFFLOADS;
                let wanted = NetFeatures::from_bits(wanted)?;
                possible.contains(wanted).then_some(())?;
                let features = (self.features - NetFeatures::GUEST_OFFLOADS) | wanted;
                self.receiving(|receive| receive.features = features)
            }
            _ => None,
        }
    }

    /// Changes the filter, and notes what the switch has to know of it.
    fn filter(&self, work: impl FnOnce(&mut Receive<M>)) -> Option<()> {
        let is_curious = self.receiving(|receive| {
            work(receive);
            receive.filter.is_curious()
        })?;
        self.switch.set_curious(self.origin.port, is_curious);
        Some(())
    }

    /// 5.1.6.5.1.
    fn mode(&self, mode: u8, at: &mut Cursor<'_>, memory: &M) -> Option<()> {
        let mode = match mode {
            0 => Mode::Promiscuous,
            1 => Mode::AllMulticast,
            2 => Mode::AllUnicast,
            3 => Mode::NoMulticast,
            4 => Mode::NoUnicast,
            _ => Mode::NoBroadcast,
        };
        let [is_on @ 0..=1] = bytes(at, memory)? else {
            return None;
        };
        self.filter(|receive| receive.filter.set(mode, is_on == 1))
    }

    /// Gives the card another address, if its port may have one that nobody else has (5.1.6.5.2).
    fn address(&self, at: &mut Cursor<'_>, memory: &M) -> Option<()> {
        let mac = Mac::new(bytes(at, memory)?);
        if mac != self.switch.mac(self.origin.port) {
            let may = self.is_open && self.switch.is_free(self.origin.port, mac);
            may.then_some(())?;
        }
        self.receiving(|receive| receive.filter.mac = mac)?;
        self.switch.set_mac(self.origin.port, mac);
        Some(())
    }
}

fn bytes<const N: usize, M: GuestMemory>(at: &mut Cursor<'_>, memory: &M) -> Option<[u8; N]> {
    let mut all = [0; N];
    at.read(memory, &mut all)?;
    Some(all)
}

/// A table of addresses.
fn table<M: GuestMemory>(at: &mut Cursor<'_>, memory: &M) -> Option<Addresses> {
    let count = u32::from_le_bytes(bytes(at, memory)?);
    let mut all = Addresses::new();
    if count > MAX_COUNT {
        return None;
    }
    for _ in 0..count {
        let mac = Mac::new(bytes(at, memory)?);
        all.is_all |= all.listed.try_push(mac).is_err();
    }
    Some(all)
}
