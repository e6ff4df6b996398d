//! The boot bundle: a plan and the files it names, in one archive.

use core::fmt;

use crate::cpio::{Archive, CpioError};
use crate::{Plan, PlanError, SegmentPlan};

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
pub enum BundleError<'a> {
    /// The archive is damaged.
    Archive(CpioError),
    /// The archive has no plan.
    NoPlan,
    /// The plan is not valid.
    Plan(PlanError),
    /// A file the plan names is not in the archive.
    NoFile(&'a str),
    /// A file has not the length the plan gives.
    FileLength {
        /// The file.
        file: &'a str,
        /// What the plan says.
        said: u64,
        /// What is there.
        found: usize,
    },
}

impl fmt::Display for BundleError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(error) => write!(f, "the boot bundle is damaged: {error}"),
            Self::NoPlan => write!(f, "the boot bundle has no `{PLAN_FILE}`"),
            Self::Plan(error) => write!(f, "the plan is refused: {error}"),
            Self::NoFile(file) => {
                write!(f, "the boot bundle has no `{file}`, which the plan names")
            }
            Self::FileLength { file, said, found } => {
                write!(
                    f,
                    "`{file}` has {found} bytes in the boot bundle, but {said} in the plan"
                )
            }
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
        let blob = archive
            .find(PLAN_FILE)
            .map_err(BundleError::Archive)?
            .ok_or(BundleError::NoPlan)?;
        let plan = Plan::decode(blob).map_err(BundleError::Plan)?;
        for segment in plan.guests().flat_map(|guest| guest.segments()) {
            let file = archive.find(segment.file).map_err(BundleError::Archive)?;
            let found = file.ok_or(BundleError::NoFile(segment.file))?.len();
            if u64::try_from(found).ok() != Some(segment.len) {
                return Err(BundleError::FileLength {
                    file: segment.file,
                    said: segment.len,
                    found,
                });
            }
        }
        Ok(Self { plan, archive })
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
