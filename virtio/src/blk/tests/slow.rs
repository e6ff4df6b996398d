//! A disk that answers later, and in any order.

use std::vec;
use std::vec::Vec;

use crate::blk::{Disk, Facts, Op, Outcome, RamDisk, Request, Status, Token};
use crate::chain::Cursor;
use crate::fake::Ram;
use crate::memory::GuestMemory;

struct Begun {
    token: Token,
    request: Request,
    bytes: Vec<u8>,
}

pub struct Slow {
    pub store: &'static Ram,
    pub facts: Facts,
    begun: Vec<Begun>,
    over: Vec<Begun>,
    /// Those of which the device was told.
    told: Vec<Begun>,
    /// How many requests it has room for.
    pub room: usize,
    /// Which of those begun is over next is taken from this.
    pub seed: u64,
    /// How many flushes it has seen.
    pub flushes: u32,
    /// All requests fail.
    pub fails: bool,
}

impl Slow {
    pub fn new(store: &'static Ram, sectors: u64, room: usize) -> Self {
        let ram = RamDisk::new(store, sectors).expect("memory");
        Self {
            store,
            facts: Facts {
                most: 16,
                volatile: true,
                ..ram.facts()
            },
            begun: Vec::new(),
            over: Vec::new(),
            told: Vec::new(),
            room,
            seed: 1,
            flushes: 0,
            fails: false,
        }
    }

    pub fn in_flight(&self) -> usize {
        self.begun.len() + self.over.len() + self.told.len()
    }

    /// One of those begun is over. False if there is none.
    pub fn finish_one(&mut self) -> bool {
        if self.begun.is_empty() {
            return false;
        }
        self.seed = self
            .seed
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(1);
        let which = (self.seed >> 33) as usize % self.begun.len();
        let mut one = self.begun.remove(which);
        let (at, len) = (one.request.at(), one.request.bytes() as usize);
        match one.request.op {
            _ if self.fails => {}
            Op::Read => one.bytes = self.store.peek(at, len),
            Op::Write => self.store.poke(at, &one.bytes),
            Op::WriteZeroes { .. } => self.store.poke(at, &vec![0; len]),
            Op::Flush => self.flushes += 1,
            Op::Discard => {}
        }
        self.over.push(one);
        true
    }
}

impl<M: GuestMemory> Disk<M> for Slow {
    fn facts(&self) -> Facts {
        self.facts
    }

    fn submit(
        &mut self,
        request: &Request,
        mut data: Cursor<'_>,
        memory: &M,
        token: Token,
    ) -> Outcome {
        if self.in_flight() == self.room {
            return Outcome::Busy;
        }
        let mut bytes = Vec::new();
        if request.op == Op::Write {
            bytes = vec![0; request.bytes() as usize];
            data.read(memory, &mut bytes).expect("enough data");
        }
        assert!(
            self.begun
                .iter()
                .chain(&self.over)
                .all(|one| one.token != token)
        );
        self.begun.push(Begun {
            token,
            request: *request,
            bytes,
        });
        Outcome::Pending
    }

    fn finished(&mut self) -> Option<Token> {
        if self.over.is_empty() {
            return None;
        }
        let one = self.over.remove(0);
        let token = one.token;
        self.told.push(one);
        Some(token)
    }

    fn collect(&mut self, token: Token, data: Option<(Cursor<'_>, &M)>) -> Status {
        let which = self.told.iter().position(|one| one.token == token);
        let one = self.told.remove(which.expect("it was said once"));
        if self.fails {
            return Status::IoError;
        }
        if let Some((mut cursor, memory)) = data
            && one.request.op == Op::Read
        {
            // There was room when it was submitted; the memory may have gone.
            if cursor.write(memory, &one.bytes).is_none() {
                return Status::IoError;
            }
        }
        Status::Ok
    }
}
