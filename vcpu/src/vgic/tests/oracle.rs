//! The GIC as the guest's architect wrote it: no list registers, no lanes that must be asked, one truth.

use std::vec::Vec;

#[derive(Clone, Debug)]
pub(super) struct Interrupt {
    pub(super) enabled: bool,
    pub(super) group1: bool,
    pub(super) edge: bool,
    pub(super) latch: bool,
    pub(super) line: bool,
    pub(super) active: bool,
    pub(super) priority: u8,
    /// The lane it goes to; `None` for an affinity that does not exist.
    pub(super) route: Option<usize>,
    /// The lane that took it.
    pub(super) owner: usize,
}

impl Interrupt {
    fn new(route: usize) -> Self {
        Self {
            enabled: false,
            group1: true,
            edge: false,
            latch: false,
            line: false,
            active: false,
            priority: 0xa0,
            route: Some(route),
            owner: route,
        }
    }

    pub(super) fn pending(&self) -> bool {
        self.latch || (self.line && !self.edge)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Cpu {
    pub(super) pmr: u8,
    pub(super) groups: [bool; 2],
    /// Active priorities that were not dropped yet, with the interrupts that raised them.
    pub(super) running: Vec<(u8, u32)>,
    /// EOImode 1: dropped but not deactivated.
    pub(super) dropped: Vec<u32>,
}

pub(super) struct Oracle {
    pub(super) control: u32,
    private: Vec<Vec<Interrupt>>,
    spis: Vec<Interrupt>,
    pub(super) cpus: Vec<Cpu>,
}

impl Oracle {
    pub(super) fn new(lanes: usize) -> Self {
        let cpu = Cpu {
            pmr: 0xf0,
            groups: [true; 2],
            running: Vec::new(),
            dropped: Vec::new(),
        };
        Self {
            control: 3,
            private: (0..lanes)
                .map(|lane| std::vec![Interrupt::new(lane); 32])
                .collect(),
            spis: std::vec![Interrupt::new(0); 64],
            cpus: std::vec![cpu; lanes],
        }
    }

    pub(super) fn get(&mut self, lane: usize, intid: u32) -> &mut Interrupt {
        let index = intid as usize;
        if index < 32 {
            &mut self.private[lane][index]
        } else {
            &mut self.spis[index - 32]
        }
    }

    /// The most urgent priority that would interrupt `lane`, and whether `intid` may be the one.
    pub(super) fn candidates(&mut self, lane: usize) -> (u8, Vec<u32>) {
        let cpu = self.cpus[lane].clone();
        let running = cpu
            .running
            .iter()
            .map(|(priority, _)| *priority)
            .min()
            .unwrap_or(0xff);
        let control = self.control;
        let mut best = (0xff, Vec::new());
        for intid in 0..96 {
            let it = self.get(lane, intid);
            let group = usize::from(it.group1);
            if it.pending()
                && it.enabled
                && !it.active
                && control >> group & 1 != 0
                && cpu.groups[group]
                && it.route == Some(lane)
                && it.priority < cpu.pmr
                && it.priority < running
            {
                if it.priority < best.0 {
                    best = (it.priority, Vec::new());
                }
                if it.priority == best.0 {
                    best.1.push(intid);
                }
            }
        }
        best
    }

    /// The lane took `intid`, or found nothing: both must be right.
    pub(super) fn acknowledged(&mut self, lane: usize, taken: Option<u32>) {
        let (priority, possible) = self.candidates(lane);
        match taken {
            None => assert!(possible.is_empty(), "lane {lane} lost {possible:?}"),
            Some(intid) => {
                assert!(
                    possible.contains(&intid),
                    "lane {lane} took {intid} instead of one of {possible:?}"
                );
                let it = self.get(lane, intid);
                it.latch = false;
                it.active = true;
                it.owner = lane;
                self.cpus[lane].running.push((priority, intid));
            }
        }
    }

    /// EOI of the interrupt the lane runs. Returns it.
    pub(super) fn ended(&mut self, lane: usize, split: bool) -> Option<u32> {
        let (_, intid) = self.cpus[lane].running.pop()?;
        if split {
            self.cpus[lane].dropped.push(intid);
        } else {
            self.get(lane, intid).active = false;
        }
        Some(intid)
    }
}
