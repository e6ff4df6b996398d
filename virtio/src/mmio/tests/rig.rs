//! A device that writes down what it is asked.

use std::vec::Vec;

use stage2_addr::Ipa;

use crate::device::{Dependency, Device, Env, Served};
use crate::features::Features;
use crate::memory::GuestMemory;
use crate::mmio::{Offer, Status, Transport, register};
use crate::queue::Queue;

/// Memory that nobody reaches.
#[derive(Clone, Copy)]
pub struct Nowhere;

impl GuestMemory for Nowhere {
    fn contains(&self, _: Ipa, _: u64) -> bool {
        false
    }
    fn read(&self, _: Ipa, _: &mut [u8]) -> Option<()> {
        None
    }
    fn write(&self, _: Ipa, _: &[u8]) -> Option<()> {
        None
    }
    fn copy(&self, _: Ipa, _: &Self, _: Ipa, _: u32) -> Option<()> {
        None
    }
    fn load_u16(&self, _: Ipa) -> Option<u16> {
        None
    }
    fn load_u32(&self, _: Ipa) -> Option<u32> {
        None
    }
    fn load_u64(&self, _: Ipa) -> Option<u64> {
        None
    }
    fn store_u16(&self, _: Ipa, _: u16) -> Option<()> {
        None
    }
    fn store_u32(&self, _: Ipa, _: u32) -> Option<()> {
        None
    }
    fn store_u64(&self, _: Ipa, _: u64) -> Option<()> {
        None
    }
    fn acquire(&self) {}
    fn release(&self) {}
    fn fence(&self) {}
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    WriteConfig(u64, Vec<u8>),
    Start(u64),
    Open(u16),
    Close(u16),
    Reset,
    Serve(u16),
    Poll,
}

/// Feature 3 needs 1 or 2; 4 needs 3; 5 needs 6, which binds the device alone.
const RULES: &[Dependency] = &[
    Dependency {
        feature: 1 << 4,
        any_of: 1 << 3,
        offer_only: false,
    },
    Dependency {
        feature: 1 << 3,
        any_of: 1 << 1 | 1 << 2,
        offer_only: false,
    },
    Dependency {
        feature: 1 << 5,
        any_of: 1 << 6,
        offer_only: true,
    },
];

/// Three queues, of which the middle one does not exist, and a configuration space of 12 bytes.
pub struct Probe {
    pub calls: Vec<Call>,
    pub answer: Served,
    pub broken: bool,
}

impl<M: GuestMemory> Device<M> for Probe {
    fn id(&self) -> u32 {
        42
    }
    fn features(&self) -> u64 {
        0x7f | 1 << 24 | Features::ACCESS_PLATFORM.bits() | 1 << 50
    }
    fn dependencies(&self) -> &'static [Dependency] {
        RULES
    }
    fn queue_max(&self, queue: u16) -> u16 {
        match queue {
            0 => 256,
            2 => 8,
            _ => 0,
        }
    }
    fn read_config(&self, offset: u64, into: &mut [u8]) {
        for (at, byte) in (offset..12).zip(into) {
            *byte = 0xc0 + at as u8;
        }
    }
    fn write_config(&mut self, offset: u64, bytes: &[u8], _: &mut Env<'_, M>) -> Served {
        self.calls.push(Call::WriteConfig(offset, bytes.to_vec()));
        self.answer
    }
    fn start(&mut self, features: u64) {
        self.calls.push(Call::Start(features));
    }
    fn open(&mut self, queue: u16, _: Queue) {
        self.calls.push(Call::Open(queue));
    }
    fn close(&mut self, queue: u16) {
        self.calls.push(Call::Close(queue));
    }
    fn reset(&mut self) {
        self.calls.push(Call::Reset);
    }
    fn serve(&mut self, queue: u16, _: &mut Env<'_, M>) -> Served {
        self.calls.push(Call::Serve(queue));
        self.answer
    }
    fn poll(&mut self, _: &mut Env<'_, M>) -> Served {
        self.calls.push(Call::Poll);
        self.answer
    }
    fn is_broken(&self) -> bool {
        self.broken
    }
}

/// Both sides of the registers.
pub struct Rig<M> {
    pub transport: Transport,
    pub probe: Probe,
    pub memory: M,
}

impl Rig<Nowhere> {
    pub fn new() -> Self {
        Self::with(Offer::ALL, Nowhere)
    }

    pub fn offering(offer: Offer) -> Self {
        Self::with(offer, Nowhere)
    }
}

impl<M: GuestMemory> Rig<M> {
    pub fn with(offer: Offer, memory: M) -> Self {
        Self {
            transport: Transport::new(offer),
            probe: Probe {
                calls: Vec::new(),
                answer: Served::default(),
                broken: false,
            },
            memory,
        }
    }

    pub fn load(&self, offset: u64, bytes: usize) -> u64 {
        self.transport
            .read(&self.probe as &dyn Device<M>, offset, bytes)
    }

    pub fn read(&self, offset: u64) -> u32 {
        self.load(offset, 4) as u32
    }

    pub fn store(&mut self, offset: u64, bytes: usize, value: u64) -> Served {
        let mut env = Env {
            memory: self.memory,
            now: 0,
            frequency: 1,
            trace: None,
        };
        self.transport
            .write(&mut self.probe, offset, bytes, value, &mut env)
    }

    pub fn write(&mut self, offset: u64, value: u32) -> Served {
        self.store(offset, 4, value.into())
    }

    pub fn poll(&mut self) -> Served {
        let mut env = Env {
            memory: self.memory,
            now: 0,
            frequency: 1,
            trace: None,
        };
        self.transport.poll(&mut self.probe, &mut env)
    }

    pub fn status(&self) -> u32 {
        self.read(register::STATUS)
    }

    pub fn set_status(&mut self, status: u32) -> Served {
        self.write(register::STATUS, status)
    }

    pub fn accept(&mut self, features: u64) {
        self.write(register::DRIVER_FEATURES_SEL, 0);
        self.write(register::DRIVER_FEATURES, features as u32);
        self.write(register::DRIVER_FEATURES_SEL, 1);
        self.write(register::DRIVER_FEATURES, (features >> 32) as u32);
    }

    pub fn offered(&mut self) -> u64 {
        self.write(register::DEVICE_FEATURES_SEL, 0);
        let low = self.read(register::DEVICE_FEATURES);
        self.write(register::DEVICE_FEATURES_SEL, 1);
        let high = self.read(register::DEVICE_FEATURES);
        u64::from(low) | u64::from(high) << 32
    }

    /// As far as a driver gets whose features are taken.
    pub fn negotiate(&mut self, features: u64) {
        self.set_status(1);
        self.set_status(3);
        self.accept(features | Features::VERSION_1.bits());
        self.set_status(11);
        assert_eq!(self.status(), 11);
    }

    pub fn drive(&mut self, features: u64) {
        self.negotiate(features);
        self.set_status(15);
        assert_eq!(self.transport.status().bits(), 15);
        assert!(self.transport.status().contains(Status::DRIVER_OK));
    }

    pub fn calls(&mut self) -> Vec<Call> {
        core::mem::take(&mut self.probe.calls)
    }
}
