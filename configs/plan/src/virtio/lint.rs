//! How closely a guest's drivers are watched.

/// What is reported of how a guest's drivers use virtio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lint {
    /// Nothing: nobody watches.
    #[default]
    Off,
    /// What breaks the specification, and can do harm here.
    Errors,
    /// What can do harm with other devices only, too.
    Strict,
}
