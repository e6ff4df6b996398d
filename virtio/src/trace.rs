//! Words for who reads what a driver does.

use crate::mmio::register;

/// What a driver's stores to the registers of a transport are called. None: stores that say nothing without others, and
/// those that nobody names.
#[must_use]
pub const fn register(offset: u64) -> Option<&'static str> {
    Some(match offset {
        register::DRIVER_FEATURES => "DriverFeatures",
        register::DRIVER_FEATURES_SEL => "DriverFeaturesSel",
        register::QUEUE_SEL => "QueueSel",
        register::QUEUE_SIZE => "QueueSize",
        register::QUEUE_READY => "QueueReady",
        register::QUEUE_NOTIFY => "QueueNotify",
        register::STATUS => "Status",
        register::QUEUE_DESC_LOW => "QueueDescLow",
        register::QUEUE_DRIVER_LOW => "QueueDriverLow",
        register::QUEUE_DEVICE_LOW => "QueueDeviceLow",
        register::QUEUE_RESET => "QueueReset",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_named_as_the_specification_does() {
        assert_eq!(register(0x70), Some("Status"));
        assert_eq!(register(0x50), Some("QueueNotify"));
        assert_eq!(register(0x64), None);
        let named = (0..0x100).filter(|offset| register(*offset).is_some());
        assert_eq!(named.count(), 11);
    }
}
