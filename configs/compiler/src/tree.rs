//! One guest's device tree: generated, and with the guest's own overlay on it.

use std::rc::Rc;

use crate::devices::Given;
use crate::diagnostic::Diagnostic;
use crate::dtb::{self, Written};
use crate::environment::Seeds;
use crate::layout::DTB_LIMIT;
use crate::overlay;
use crate::raw::RawGuest;
use crate::summary::size;

/// A device tree of which only the initrd's place is open.
#[derive(Debug)]
pub(crate) struct Tree {
    name: String,
    memory: u64,
    lanes: u32,
    cmdline: String,
    seeds: Option<Seeds>,
    overlay: Option<Rc<Vec<u8>>>,
    devices: Vec<Given>,
    firmware: bool,
    length: u64,
}

impl Tree {
    /// Finds out how long the device tree will be. `None`: something is wrong, and reported here or elsewhere.
    pub(crate) fn draft(
        guest: &RawGuest,
        memory: u64,
        firmware: bool,
        devices: Vec<Given>,
        seeds: Option<Seeds>,
        overlay: Option<Rc<Vec<u8>>>,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let cmdline = guest.cmdline.as_ref();
        let mut tree = Self {
            name: guest.name.as_ref()?.value.clone(),
            memory,
            lanes: guest.lanes.as_ref()?.value,
            cmdline: cmdline.map_or_else(String::new, |cmdline| cmdline.value.clone()),
            seeds,
            overlay,
            devices,
            firmware,
            length: 0,
        };
        let generated = tree.generate(guest.initrd.as_ref().map(|_| (0, 0)))?;
        let whole = match (&tree.overlay, &guest.overlay) {
            (Some(overlay), Some(field)) => match overlay::apply(&generated, overlay) {
                Ok(whole) => whole,
                Err(why) => {
                    let title = format!("the overlay `{}` cannot be applied", field.value);
                    let diagnostic = Diagnostic::new(title).at(field.span.clone(), why.to_string());
                    found.push(diagnostic.help(why.help()));
                    return None;
                }
            },
            _ => generated.bytes,
        };
        tree.length = u64::try_from(whole.len()).unwrap_or(u64::MAX);
        if let Some(field) = guest.overlay.as_ref().filter(|_| tree.length > DTB_LIMIT) {
            let diagnostic = Diagnostic::new(format!("the overlay `{}` is too large", field.value))
                .at(
                    field.span.clone(),
                    format!("the device tree would have {}", size(tree.length)),
                );
            found.push(diagnostic.help(format!(
                "kernels take device trees of at most {}",
                size(DTB_LIMIT)
            )));
            return None;
        }
        Some(tree)
    }

    /// The devices of the machine that it has.
    pub(crate) fn devices(&self) -> &[Given] {
        &self.devices
    }

    /// Bytes of the device tree.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The device tree with the initrd's first address and length.
    pub(crate) fn with_initrd(&self, initrd: Option<(u64, u64)>) -> Option<Vec<u8>> {
        let generated = self.generate(initrd)?;
        match &self.overlay {
            None => Some(generated.bytes),
            Some(overlay) => overlay::apply(&generated, overlay).ok(),
        }
    }

    fn generate(&self, initrd: Option<(u64, u64)>) -> Option<Written> {
        dtb::write(&dtb::Machine {
            name: &self.name,
            memory: self.memory,
            lanes: self.lanes,
            cmdline: &self.cmdline,
            initrd,
            seeds: self.seeds,
            firmware: self.firmware,
            labels: self.overlay.is_some(),
            devices: &self.devices,
        })
        .ok()
    }
}
