//! The boot bundle: a plan and the files it names, in one archive.

use core::fmt;

use crate::cpio::Archive;
#[cfg(feature = "virtio")]
use crate::{IMAGE_ALIGN, Image};
use crate::{Plan, PlanError, SegmentPlan, Why};

/// The plan's name in the bundle.
pub const PLAN_FILE: &str = "plan";

/// A boot bundle whose plan is valid and whose files are all there, each with the length the plan gives.
#[derive(Clone, Copy, Debug)]
pub struct Bundle<'a> {
    plan: Plan<'a>,
    archive: Archive<'a>,
}

/// Why a bundle was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleError<'a> {
    /// What is wrong with the archive, or with its plan.
    pub error: PlanError,
    /// The file that is wrong; empty when it is the bundle as a whole.
    pub file: &'a str,
}

impl From<PlanError> for BundleError<'_> {
    fn from(error: PlanError) -> Self {
        Self { error, file: "" }
    }
}

impl fmt::Display for BundleError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, file } = self;
        match file.is_empty() {
            true => write!(f, "{error}"),
            false => write!(f, "{error}: `{file}`"),
        }
    }
}

impl core::error::Error for BundleError<'_> {}

impl<'a> Bundle<'a> {
    /// Reads and judges a bundle.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn open(bytes: &'a [u8]) -> Result<Self, BundleError<'a>> {
        let archive = Archive::new(bytes);
        let blob = archive.find(PLAN_FILE)?;
        let plan = Plan::decode(blob.ok_or(PlanError::new(Why::NoPlan, 0))?)?;
        for guest in plan.guests() {
            for segment in guest.segments() {
                let file = segment.file;
                let error = match archive.find(file)? {
                    None => guest.wrong(Why::NoFile, segment.ipa),
                    Some(found) if found.len() as u64 == segment.len => continue,
                    Some(found) => guest.wrong(Why::FileLength, found.len() as u64),
                };
                return Err(BundleError { error, file });
            }
        }
        let bundle = Self { plan, archive };
        #[cfg(feature = "virtio")]
        bundle.judge_images(bytes)?;
        Ok(bundle)
    }

    /// Whether the images of all disks are there, where they can be read in place.
    #[cfg(feature = "virtio")]
    fn judge_images(&self, bytes: &'a [u8]) -> Result<(), BundleError<'a>> {
        for (disk, nth) in self.plan.disks().zip(0..) {
            let Some(image) = disk.kind.image() else {
                continue;
            };
            let file = image.file;
            let found = self.archive.find(file)?;
            let why = match found.filter(|found| found.len() as u64 == image.len) {
                None => Why::DiskImage,
                Some(found) => match offset(found, bytes).is_multiple_of(IMAGE_ALIGN) {
                    true => continue,
                    false => Why::DiskPlace,
                },
            };
            let error = PlanError::new(why, nth);
            return Err(BundleError { error, file });
        }
        Ok(())
    }

    /// The bytes of a disk's image. `None` only for one of another bundle's plan.
    #[cfg(feature = "virtio")]
    #[must_use]
    pub fn image(&self, image: &Image<&str>) -> Option<&'a [u8]> {
        self.archive.find(image.file).ok().flatten()
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan<'a> {
        &self.plan
    }

    /// A segment's bytes. `None` only for a segment of another bundle's plan.
    #[must_use]
    pub fn segment(&self, segment: &SegmentPlan<'_>) -> Option<&'a [u8]> {
        self.archive.find(segment.file).ok().flatten()
    }
}

/// Where a part of `whole` begins in it.
#[cfg(feature = "virtio")]
fn offset(part: &[u8], whole: &[u8]) -> usize {
    part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr())
}
