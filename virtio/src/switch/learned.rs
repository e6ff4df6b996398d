//! Behind which port an address was last seen.
//!
//! Cards of guests have the address that the machine file gives them, and nothing is learned of them. Learned is what
//! lies behind an uplink, or behind a guest that may send from any address. The table takes a fixed number of them for
//! each network; one that is forgotten is found again by asking everybody. It is read and written without a lock: an
//! entry is one word.

use core::array::from_fn;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::MAX_NETWORKS;
use super::frame::Mac;

const SETS: usize = 32;
const WAYS: usize = 4;
/// Address, port, and the time it was seen at.
const PORT: u32 = 48;
const SEEN: u32 = 54;
const ADDRESS: u64 = (1 << PORT) - 1;
const PORT_MASK: u64 = (1 << (SEEN - PORT)) - 1;
const SEEN_MASK: u64 = (1 << (64 - SEEN)) - 1;
/// How long an address is believed (IEEE 802.1Q, table 8-6: 300 seconds), in units of four seconds.
const AGE: u64 = 75;

/// The table.
pub(crate) struct Learned {
    networks: [[[AtomicU64; WAYS]; SETS]; MAX_NETWORKS],
}

fn age(entry: u64, quads: u64) -> u64 {
    quads.wrapping_sub(entry >> SEEN) & SEEN_MASK
}

impl Learned {
    pub fn new() -> Self {
        Self {
            networks: from_fn(|_| from_fn(|_| from_fn(|_| AtomicU64::new(0)))),
        }
    }

    fn set(&self, network: u8, mac: Mac) -> &[AtomicU64] {
        let hash = mac.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59;
        self.networks
            .get(usize::from(network))
            .zip(usize::try_from(hash).ok())
            .and_then(|(sets, hash)| sets.get(hash))
            .map_or(&[], |set| set)
    }

    /// The port that an address was seen behind, not long before `quads`, a number of four seconds.
    pub fn find(&self, network: u8, mac: Mac, quads: u64) -> Option<usize> {
        let mut ways = self.set(network, mac).iter().map(|way| way.load(Relaxed));
        let entry = ways.find(|entry| entry & ADDRESS == mac.0)?;
        let port = usize::try_from(entry >> PORT & PORT_MASK).ok()?;
        (age(entry, quads) <= AGE).then_some(port)
    }

    /// Notes a station's address.
    pub fn learn(&self, network: u8, mac: Mac, port: usize, quads: u64) {
        let set = self.set(network, mac);
        let port = u64::try_from(port).unwrap_or(0) & PORT_MASK;
        let new = mac.0 & ADDRESS | port << PORT | (quads & SEEN_MASK) << SEEN;
        // Whoever else learns the same address at this moment makes a second entry of it: either is true.
        let mut is_known = false;
        for way in set {
            let entry = way.load(Relaxed);
            if entry & ADDRESS == mac.0 {
                is_known = true;
                if entry != new {
                    way.store(new, Relaxed);
                }
            }
        }
        if is_known {
            return;
        }
        let oldest = set.iter().max_by_key(|way| match way.load(Relaxed) {
            0 => u64::MAX,
            entry => age(entry, quads),
        });
        if let Some(way) = oldest {
            way.store(new, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_found_until_it_is_old() {
        let table = Learned::new();
        let mac = Mac::new([2, 0, 0, 0, 0, 9]);
        table.learn(3, mac, 63, 1020);
        assert_eq!(table.find(3, mac, 1020), Some(63));
        assert_eq!(table.find(3, mac, 1020 + AGE), Some(63));
        assert_eq!(table.find(3, mac, 1021 + AGE), None);
        assert_eq!(table.find(2, mac, 1020), None);
        table.learn(3, mac, 5, 1030);
        assert_eq!(table.find(3, mac, 1030), Some(5));
    }

    #[test]
    fn the_oldest_makes_room_and_other_networks_keep_theirs() {
        let table = Learned::new();
        let kept = Mac::new([2, 0, 0, 0, 0, 9]);
        table.learn(0, kept, 1, 0);
        for n in 0..100_000_u64 {
            let mac = Mac(0x02 | n << 8);
            table.learn(1, mac, 2, n / 1000);
            assert_eq!(table.find(1, mac, n / 1000), Some(2));
        }
        assert_eq!(table.find(0, kept, 0), Some(1));
    }
}
