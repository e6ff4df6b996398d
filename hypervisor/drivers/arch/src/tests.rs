//! The drivers against a device that is memory and a few registers, honest or not.

mod disk;
mod fake;
mod net;
