//! The combinations of virtio's features.

use std::fmt;

use configs_plan::Offer;

use crate::cli::QueueSize;

/// What devices offer in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Combination {
    /// Packed rings, to who knows them; everybody knows split ones.
    pub packed: bool,
    /// Indirect descriptors.
    pub indirect: bool,
    /// Event indices.
    pub event_idx: bool,
    /// Use in order.
    pub in_order: bool,
    /// The largest queue.
    pub queue_size: QueueSize,
}

/// All of them, for queues of these sizes. The first are what is simplest for a driver.
pub fn all(queue_sizes: &[QueueSize]) -> Vec<Combination> {
    let mut all = Vec::new();
    for queue_size in queue_sizes {
        for bits in 0..16u8 {
            let bit = |nth: u8| bits >> nth & 1 == 1;
            all.push(Combination {
                packed: bit(3),
                indirect: bit(2),
                event_idx: bit(1),
                in_order: bit(0),
                queue_size: *queue_size,
            });
        }
    }
    all
}

impl Combination {
    /// What is kept back for it.
    pub fn offer(&self) -> Offer {
        let features = [
            (self.packed, Offer::PACKED),
            (self.indirect, Offer::INDIRECT),
            (self.event_idx, Offer::EVENT_IDX),
            (self.in_order, Offer::IN_ORDER),
        ];
        let withheld = features.into_iter().filter(|(is_offered, _)| !is_offered);
        Offer {
            withheld: withheld.fold(0, |all, (_, feature)| all | feature),
            queue_size: self.queue_size.0.unwrap_or(0),
        }
    }

    /// Its parts, each in a word.
    pub fn words(&self) -> [String; 5] {
        let said = |is_offered: bool, word: &str| if is_offered { word } else { "-" }.to_owned();
        [
            if self.packed { "packed" } else { "split" }.to_owned(),
            said(self.indirect, "indirect"),
            said(self.event_idx, "event-idx"),
            said(self.in_order, "in-order"),
            self.queue_size
                .0
                .map_or_else(|| "any".to_owned(), |size| size.to_string()),
        ]
    }
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ring, features @ .., size] = self.words();
        write!(f, "{ring}")?;
        for word in features.iter().filter(|word| *word != "-") {
            write!(f, " {word}")?;
        }
        write!(f, ", queues {size}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_there_once() {
        let sizes = [QueueSize(None), QueueSize(Some(16))];
        let all = all(&sizes);
        assert_eq!(all.len(), 32);
        let mut offers: Vec<_> = all
            .iter()
            .map(|one| (one.offer().withheld, one.offer().queue_size))
            .collect();
        offers.sort_unstable();
        offers.dedup();
        assert_eq!(offers.len(), 32);
        assert_eq!(all[0].to_string(), "split, queues any");
        assert_eq!(
            all[31].to_string(),
            "packed indirect event-idx in-order, queues 16"
        );
        assert_eq!(all[15].offer(), Offer::default());
        assert_eq!(all[0].offer().withheld, 0xC_3000_0000);
    }
}
