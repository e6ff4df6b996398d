//! `[guest.virtio]`: what of virtio a guest's drivers are offered.

use configs_plan::Offer;
use toml::de::DeTable;

use super::{Field, Kind, Reader};
use crate::diagnostic::Diagnostic;

pub(super) static OFFER: Kind = Kind {
    name: "`virtio`",
    keys: &[
        "packed",
        "indirect",
        "event_idx",
        "in_order",
        "notification_data",
        "ring_reset",
        "queue_size",
    ],
    help: "`virtio` can say `false` of `packed`, `indirect`, `event_idx`, `in_order`, `notification_data` and `ring_reset`, and have `queue_size`",
};
const FEATURES: [(&str, u64); 6] = [
    ("packed", Offer::PACKED),
    ("indirect", Offer::INDIRECT),
    ("event_idx", Offer::EVENT_IDX),
    ("in_order", Offer::IN_ORDER),
    ("notification_data", Offer::NOTIFICATION_DATA),
    ("ring_reset", Offer::RING_RESET),
];

impl Reader<'_> {
    pub(super) fn offer(&mut self, guest: &DeTable<'_>) -> Option<Field<Offer>> {
        let (table, span) = self.part(guest, "virtio", &OFFER, "packed = false")?;
        let mut value = Offer::default();
        for (key, feature) in FEATURES {
            let flag = self.flag(table, key);
            if flag.is_some_and(|flag| !flag.value) {
                value.withheld |= feature;
            }
        }
        if let Some(size) = self.number(table, "queue_size", "16") {
            match u16::try_from(size.value) {
                Ok(number) if number > 0 && Offer::is_size(size.value) => value.queue_size = number,
                _ => {
                    let title = format!("no queue has the size {}", size.value);
                    let near = size.value.clamp(1, 1 << 15).next_power_of_two();
                    let help = "the size of a queue is a power of two, 32768 at most";
                    let diagnostic = Diagnostic::new(title).at(size.span.clone(), "here");
                    self.found
                        .push(diagnostic.fix(help, size.span, near.to_string()));
                }
            }
        }
        Some(Field { value, span })
    }
}
