//! The score: one line a case, and the exit code at the end.

use core::fmt::Arguments;

use tests_arch::println;

/// Failures of one case that are printed; the rest are only counted.
const SHOWN: u32 = 5;

/// Cases run so far.
#[derive(Debug, Default)]
pub struct Score {
    cases: u32,
    failed: u32,
}

/// One case: many checks may belong to it.
#[derive(Debug)]
pub struct Case<'score> {
    id: &'static str,
    checks: u32,
    failures: u32,
    score: &'score mut Score,
}

impl Score {
    /// Opens the case with this id of the catalogue.
    pub fn case(&mut self, id: &'static str) -> Case<'_> {
        Case {
            id,
            checks: 0,
            failures: 0,
            score: self,
        }
    }

    /// Prints the total; zero only when every case held.
    #[must_use]
    pub fn finish(self) -> u32 {
        println!("cases {} failed {}", self.cases, self.failed);
        u32::from(self.failed != 0)
    }
}

impl Case<'_> {
    /// One check.
    pub fn check(&mut self, holds: bool, detail: Arguments<'_>) {
        self.checks += 1;
        if holds {
            return;
        }
        self.failures += 1;
        if self.failures <= SHOWN {
            println!("case {} FAIL {detail}", self.id);
        }
    }

    /// True while nothing failed.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.failures == 0
    }
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        self.score.cases += 1;
        if self.failures == 0 {
            println!("case {} ok, {} checks", self.id, self.checks);
        } else {
            self.score.failed += 1;
            println!(
                "case {} FAIL {} of {} checks",
                self.id, self.failures, self.checks
            );
        }
    }
}
