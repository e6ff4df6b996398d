//! What the specification asks of drivers, as far as it can be seen from below.

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rank {
    /// It can do harm here: data, memory or the device.
    Error,
    /// The specification asks for it, and nothing here depends on it: a device that was never driven is as good as reset,
    /// ours needs no ACKNOWLEDGE and has no use for the sizes that legacy drivers state, and whose features were fit for it
    /// need not see that it has accepted them. What was not is an error of its own, and so is a device that was driven
    /// before and not reset.
    Advice,
}

/// Something that a driver must or should not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Its name in reports and tests.
    pub id: &'static str,
    /// Where virtio 1.3 says so.
    pub section: &'static str,
    /// What was done.
    pub text: &'static str,
    /// How much that matters.
    pub rank: Rank,
}

/// One constant and one row of the table for each rule.
macro_rules! rules {
    ($($name:ident $id:literal $section:literal $text:literal $($rank:ident)?;)*) => {
        /// The rules by name.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub(crate) enum Broken { $($name),* }

        /// All of them, in the order of their numbers.
        pub static RULES: [Rule; [$($id),*].len()] = [
            $(Rule { id: $id, section: $section, text: $text, rank: rules!(@rank $($rank)?) }),*
        ];
    };
    (@rank) => { Rank::Error };
    (@rank $rank:ident) => { Rank::$rank };
}

rules! {
    NoReset "no-reset" "3.1.1" "the device was not reset before it was set up" Advice;
    NoAcknowledge "no-acknowledge" "3.1.1" "DRIVER was set without ACKNOWLEDGE" Advice;
    StatusCleared "status-cleared" "2.1.1" "a status bit was cleared without a reset";
    StatusReserved "status-reserved" "2.1" "a status bit was set that is none of the driver's";
    DriverOkEarly "driver-ok-early" "3.1.1" "DRIVER_OK was set before FEATURES_OK";
    FeaturesUnread "features-unread" "3.1.1" "the status was not read again after FEATURES_OK" Advice;
    FeaturesRefused "features-refused" "3.1.1" "DRIVER_OK was set although the device had refused the features";
    FeaturesLate "features-late" "2.2.1" "features were written after FEATURES_OK";
    FeatureNotOffered "feature-not-offered" "2.2.1" "a feature was accepted that the device does not offer";
    NoVersion1 "no-version-1" "6.1" "VIRTIO_F_VERSION_1 was not accepted";
    RegisterWidth "register-width" "4.2.2.2" "a register was accessed in another width than 32 bits";
    RegisterReadOnly "register-read-only" "4.2.2" "a register was written that can only be read";
    RegisterWriteOnly "register-write-only" "4.2.2" "a register was read that can only be written";
    RegisterLegacy "register-legacy" "4.2.2.2" "GuestPageSize or QueueAlign was written, which only the legacy interface has" Advice;
    RegisterReserved "register-reserved" "4.2.2" "an offset was accessed where there is no register";
    NoSuchQueue "no-such-queue" "4.2.3.2" "a queue was set up that the device does not have";
    QueueSize "queue-size" "2.6" "the queue's size is zero, more than QueueSizeMax, or (split) no power of two";
    QueueAlignment "queue-alignment" "2.7" "an area of the queue is not aligned";
    QueueOutside "queue-outside" "2.7" "an area of the queue is not in memory";
    QueueOverlap "queue-overlap" "2.7" "areas of the queue overlap";
    QueueChanged "queue-changed" "4.2.2.2" "a queue was changed while it was ready";
    QueueLate "queue-late" "3.1.1" "a queue was set up after DRIVER_OK";
    QueueEarly "queue-early" "3.1.1" "a queue was set up before FEATURES_OK";
    NotifyEarly "notify-early" "3.1.1" "a notification was sent before DRIVER_OK";
    NotifyUnready "notify-unready" "4.2.2" "a queue was notified that is not ready";
    NotifyStale "notify-stale" "2.9" "the notification's data is not where the ring stands";
    ConfigTorn "config-torn" "2.5.1" "a field wider than 32 bits was read without a look at ConfigGeneration";
    ConfigEarly "config-early" "3.1.1" "the configuration was written before FEATURES_OK";
    AvailFlags "avail-flags" "2.7.7" "the available ring's flags are not 0 or 1, or not 0 with VIRTIO_F_EVENT_IDX";
    AvailJump "avail-jump" "2.7.13" "the available index jumped over more entries than the queue has";
    AvailBack "avail-back" "2.7.13" "the available index went backward";
    HeadRange "head-range" "2.7.13" "an available entry names no descriptor of the table";
    HeadReused "head-reused" "2.7.13" "a descriptor was made available that is in flight already";
    NotInOrder "not-in-order" "2.7.4" "descriptors were not used in the table's order, as VIRTIO_F_IN_ORDER asks";
    NextRange "next-range" "2.7.5" "a descriptor's next is outside of the table";
    ChainLong "chain-long" "2.7.5" "a chain is longer than the queue, or a circle";
    ChainOrder "chain-order" "2.7.4.2" "a buffer to be read follows one to be written";
    DescriptorFlags "descriptor-flags" "2.7.5" "a descriptor has undefined flags";
    BufferOutside "buffer-outside" "2.7.5" "a buffer is not in memory";
    ChainTotal "chain-total" "2.7.5.2" "a chain's buffers are more than 4 GiB";
    IndirectUnagreed "indirect-unagreed" "2.7.5.3.1" "INDIRECT is used, and was not negotiated";
    IndirectNext "indirect-next" "2.7.5.3.1" "INDIRECT and NEXT are both set";
    IndirectNested "indirect-nested" "2.7.5.3.1" "an indirect table has an indirect descriptor";
    IndirectLength "indirect-length" "2.7.5.3" "an indirect table is empty, or not a multiple of 16 bytes";
    Torn "torn" "2.7.13.3" "what was made available changed afterwards: a barrier is missing";
    FlightDescriptor "flight-descriptor" "2.7.13" "a descriptor was changed while the device had it";
    FlightBuffer "flight-buffer" "2.7.13" "a buffer was changed while the device was to read it";
    UsedWritten "used-written" "2.7.8" "the used ring was written, which is the device's";
    BlkHeader "blk-header" "5.2.6" "a request does not begin with 16 bytes to be read";
    BlkStatus "blk-status" "5.2.6" "a request has no byte to be written for its status";
    BlkType "blk-type" "5.2.6.1" "a request is of a type that was not negotiated, or is none";
    BlkReadOnly "blk-read-only" "5.2.6.1" "a write was asked of a disk that is read only";
    BlkSectors "blk-sectors" "5.2.6.1" "a request's data is not whole sectors";
    BlkRange "blk-range" "5.2.6.1" "a request is beyond the end of the disk";
    NetHeader "net-header" "5.1.6.2" "a frame has no whole header";
    NetChecksum "net-checksum" "5.1.6.2.1" "a checksum was left to the device, and that was not negotiated";
    NetSegments "net-segments" "5.1.6.2.1" "segmentation was left to the device, and that was not negotiated";
    NetBuffers "net-buffers" "5.1.6.2.1" "num_buffers of a transmitted frame is not 0";
    NetReceive "net-receive" "5.1.6.3.1" "a receive buffer is too small";
}
