//! What happens to a machine when it ends, and what an operator may do with it.
//!
//! A state machine without a clock and without hands: it is told what happened and when, and says what to do. Whoever
//! has the lanes and the memory does it and comes back with [`Event::Left`], [`Event::Built`] or [`Event::Due`].
//! Every event has an answer in every state; the table in the tests is complete.
//!
//! ```text
//!            Built              ended, stopped, reset             Left
//! Building ────────► Running ─────────────────────► Leaving ──┬────────► Building
//!    ▲                │   ▲                            ▲      ├────────► Waiting ──Due──► Building
//!    │          pause │   │ resume                     │      ├────────► Held
//!    │                ▼   │                            │      └────────► Stopped
//!    │                Paused ──────────────────────────┘                    │
//!    └──────────────────────── start, restart ──────────────────────────────┘
//! ```

use core::fmt;

use crate::ending::Ending;

/// The first restart comes at once; the second waits this long, and each later one twice as long as the last.
pub const FIRST_WAIT_MS: u64 = 100;
/// No restart waits longer.
pub const LONGEST_WAIT_MS: u64 = 10_000;
/// A machine that ran this long is well: its next restart comes at once again.
pub const STABLE_MS: u64 = 60_000;

/// What becomes of a machine that ended badly: EL2 had to stop it, or it ended itself with a code that is not 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnCrash {
    /// It begins anew.
    Restart,
    /// It stays off.
    #[default]
    Stop,
    /// It stays as it was, for somebody to look at.
    Hold,
}

/// Where a machine is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MachineState {
    /// Its memory is scrubbed and filled.
    Building,
    /// Its lanes may run.
    Running,
    /// Its lanes may not run, and go on later as if nothing had been.
    Paused,
    /// It is over, and its last lanes are on their way out.
    Leaving,
    /// It will be built again when its time has come.
    Waiting,
    /// It crashed, and is kept for somebody to look at.
    Held,
    /// It is off.
    Stopped,
}

/// Something that happened to a machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// It is built.
    Built,
    /// It ended: by its own wish, or because EL2 cannot let it go on. The first of several counts.
    Ended(Ending),
    /// It wants to begin anew (PSCI SYSTEM_RESET).
    Reset,
    /// Its last lane is out: nothing of it runs and nothing of it will.
    Left,
    /// The time that [`Action::Wait`] named has come.
    Due,
    /// An operator wants something.
    Operator(Command),
}

/// What an operator can want of a machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// Off, whatever it is doing.
    Stop,
    /// On, from the beginning.
    Start,
    /// From the beginning, whatever it is doing.
    Restart,
    /// No further for now.
    Pause,
    /// On from where it was paused.
    Resume,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Scrub its memory and build it, then say [`Event::Built`].
    Build,
    /// Switch its first lane on.
    Run,
    /// Let no lane of it run.
    Pause,
    /// Let its lanes run again.
    Resume,
    /// Bring its lanes out for good, then say [`Event::Left`].
    Leave,
    /// Say [`Event::Due`] at this time.
    Wait {
        /// When, in the milliseconds that [`Lifecycle::on`] is told.
        until_ms: u64,
        /// How long after the machine's end that is.
        wait_ms: u64,
    },
    /// It is over; its memory stays as it is.
    Hold,
    /// It is over; nobody needs its memory.
    Stop,
    /// The operator is told why nothing is done.
    Refuse(Refusal),
}

/// Why a command makes no sense now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// What was wanted.
    pub command: Command,
    /// Of a machine in which state.
    pub state: MachineState,
}

/// What follows when the last lane is out, or the building done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    /// It is built again, if not before `at`.
    Build { at: u64 },
    /// It is kept.
    Hold,
    /// It is off.
    Stop,
}

/// One machine's life.
#[derive(Debug)]
pub struct Lifecycle {
    on_crash: OnCrash,
    state: MachineState,
    /// While leaving: what then. While waiting: the time.
    next: Next,
    /// Restarts since the machine was last well.
    streak: u32,
    restarts: u32,
    /// How long this life ran before `since`.
    ran_ms: u64,
    /// Since when it runs, if it does.
    since_ms: Option<u64>,
}

impl Lifecycle {
    /// A machine that is being built.
    #[must_use]
    pub const fn new(on_crash: OnCrash) -> Self {
        Self {
            on_crash,
            state: MachineState::Building,
            next: Next::Build { at: 0 },
            streak: 0,
            restarts: 0,
            ran_ms: 0,
            since_ms: None,
        }
    }

    /// Where the machine is in its life.
    #[must_use]
    pub const fn state(&self) -> MachineState {
        self.state
    }

    /// What comes after a machine that is leaving has left: built (perhaps after a wait), held or stopped.
    #[must_use]
    pub const fn follows(&self) -> MachineState {
        match self.next {
            Next::Build { .. } => MachineState::Building,
            Next::Hold => MachineState::Held,
            Next::Stop => MachineState::Stopped,
        }
    }

    /// How often it began anew, for whatever reason.
    #[must_use]
    pub const fn restarts(&self) -> u32 {
        self.restarts
    }

    /// What to do about an event. Times are milliseconds of a clock that does not stand still while the machine does.
    pub fn on(&mut self, event: Event, now_ms: u64) -> Action {
        match event {
            Event::Built => self.built(now_ms),
            Event::Ended(ending) => self.ended(ending, now_ms),
            Event::Reset if self.is_up() => {
                let next = self.again(now_ms);
                self.leave(next)
            }
            Event::Reset => Action::Nothing,
            Event::Left if self.state == MachineState::Leaving => self.proceed(now_ms),
            Event::Left => Action::Nothing,
            Event::Due if self.state == MachineState::Waiting => self.proceed(now_ms),
            Event::Due => Action::Nothing,
            Event::Operator(command) => self.operator(command, now_ms),
        }
    }

    fn is_up(&self) -> bool {
        matches!(self.state, MachineState::Running | MachineState::Paused)
    }

    fn built(&mut self, now: u64) -> Action {
        if self.state != MachineState::Building {
            return Action::Nothing;
        }
        match self.next {
            Next::Build { .. } => {
                self.state = MachineState::Running;
                self.ran_ms = 0;
                self.since_ms = Some(now);
                Action::Run
            }
            // An operator did not want it any more.
            Next::Hold | Next::Stop => self.proceed(now),
        }
    }

    fn ended(&mut self, ending: Ending, now: u64) -> Action {
        if !self.is_up() {
            return Action::Nothing;
        }
        let next = match (ending, self.on_crash) {
            (Ending::Well, _) | (Ending::Code(_) | Ending::Stopped(_), OnCrash::Stop) => Next::Stop,
            (Ending::Code(_) | Ending::Stopped(_), OnCrash::Hold) => Next::Hold,
            (Ending::Code(_) | Ending::Stopped(_), OnCrash::Restart) => self.again(now),
        };
        self.leave(next)
    }

    /// One more restart that nobody asked for: how long it waits.
    fn again(&mut self, now: u64) -> Next {
        if self.ran(now) >= STABLE_MS {
            self.streak = 0;
        }
        let at = now.saturating_add(wait(self.streak));
        self.streak = self.streak.saturating_add(1);
        Next::Build { at }
    }

    /// How long this life has run so far, pauses not counted.
    fn ran(&self, now: u64) -> u64 {
        let running = self.since_ms.map_or(0, |since| now.saturating_sub(since));
        self.ran_ms.saturating_add(running)
    }

    fn leave(&mut self, next: Next) -> Action {
        self.state = MachineState::Leaving;
        self.since_ms = None;
        self.next = next;
        Action::Leave
    }

    /// Nothing of the machine runs: what was to follow follows.
    fn proceed(&mut self, now: u64) -> Action {
        match self.next {
            Next::Build { at } if now < at => {
                self.state = MachineState::Waiting;
                Action::Wait {
                    until_ms: at,
                    // Only the back-off puts a restart off.
                    wait_ms: wait(self.streak.saturating_sub(1)),
                }
            }
            Next::Build { .. } => self.build(),
            Next::Hold => {
                self.state = MachineState::Held;
                Action::Hold
            }
            Next::Stop => {
                self.state = MachineState::Stopped;
                Action::Stop
            }
        }
    }

    fn build(&mut self) -> Action {
        self.state = MachineState::Building;
        self.next = Next::Build { at: 0 };
        self.restarts = self.restarts.saturating_add(1);
        Action::Build
    }

    fn operator(&mut self, command: Command, now: u64) -> Action {
        use MachineState::{Building, Held, Leaving, Paused, Running, Stopped, Waiting};
        let refusal = Action::Refuse(Refusal {
            command,
            state: self.state,
        });
        let action = match (command, self.state) {
            (Command::Stop, Running | Paused) => self.leave(Next::Stop),
            (Command::Stop, Waiting | Held) => {
                self.next = Next::Stop;
                self.proceed(now)
            }
            (Command::Stop, Building | Leaving) => {
                self.next = Next::Stop;
                Action::Nothing
            }
            (Command::Start | Command::Restart, Waiting | Held | Stopped) => self.build(),
            (Command::Start | Command::Restart, Leaving) | (Command::Restart, Building) => {
                self.next = Next::Build { at: now };
                Action::Nothing
            }
            // It is on its way already, unless an operator took that back.
            (Command::Start, Building) if self.next == Next::Stop => {
                self.next = Next::Build { at: now };
                Action::Nothing
            }
            (Command::Restart, Running | Paused) => self.leave(Next::Build { at: now }),
            (Command::Pause, Running) => {
                self.ran_ms = self.ran(now);
                self.since_ms = None;
                self.state = Paused;
                Action::Pause
            }
            (Command::Resume, Paused) => {
                self.since_ms = Some(now);
                self.state = Running;
                Action::Resume
            }
            (Command::Stop, Stopped)
            | (Command::Start, Building | Running | Paused)
            | (Command::Pause, Building | Paused | Leaving | Waiting | Held | Stopped)
            | (Command::Resume, Building | Running | Leaving | Waiting | Held | Stopped) => refusal,
        };
        if action != refusal && !matches!(command, Command::Pause | Command::Resume) {
            // Deliberate: no loop.
            self.streak = 0;
        }
        action
    }
}

/// How long the restart waits that has this many before it.
fn wait(streak: u32) -> u64 {
    match streak {
        0 => 0,
        later => {
            let doublings = later.saturating_sub(1);
            let factor = 1u64.checked_shl(doublings).unwrap_or(u64::MAX);
            FIRST_WAIT_MS.saturating_mul(factor).min(LONGEST_WAIT_MS)
        }
    }
}

impl MachineState {
    /// Whether nothing will happen to the machine any more unless an operator wants it.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Held | Self::Stopped)
    }
}

impl fmt::Display for MachineState {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Building => "being built",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Leaving => "ending",
            Self::Waiting => "waiting for its restart",
            Self::Held => "held after a crash",
            Self::Stopped => "stopped",
        })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Resume => "resume",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { command, state } = self;
        write!(f, "cannot {command} it: it is {state}")?;
        match (command, state) {
            (Command::Start, MachineState::Paused) => f.write_str(" (resume goes on)"),
            (Command::Start, MachineState::Running) => {
                f.write_str(" (restart begins from the beginning)")
            }
            (Command::Resume, MachineState::Held | MachineState::Stopped) => {
                f.write_str(" (start begins from the beginning)")
            }
            (
                Command::Stop
                | Command::Start
                | Command::Restart
                | Command::Pause
                | Command::Resume,
                _,
            ) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
