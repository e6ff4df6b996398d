//! Devices that fail.

use super::*;

#[test]
fn an_interrupt_is_lost() {
    let faults = always(|faults| faults.interrupt = Often::From { nth: 1, every: 0 });
    let mut rig = Rig::new(ram_disk(), 2, faults);
    for used in [true, false, true] {
        rig.read(0, 512);
        assert_eq!(rig.notify().used, used);
        assert!(rig.driver.receive().is_some());
    }
}

#[test]
fn a_device_needs_a_reset() {
    let faults = always(|faults| faults.reset = Often::From { nth: 1, every: 0 });
    let mut rig = Rig::new(ram_disk(), 2, faults);
    rig.read(0, 512);
    assert!(!rig.notify().broken);
    rig.read(0, 512);
    let served = rig.notify();
    assert!(served.broken && served.config && !served.used);
    assert_eq!(rig.transport.status().bits(), 15 | 64);
    assert_eq!(rig.poll(), Served::default());
}

#[test]
fn nothing_is_due_of_a_device_that_is_not_driven() {
    let faults = always(|faults| {
        faults.delay = Often::ALWAYS;
        faults.reset = Often::From { nth: 1, every: 0 };
    });
    let mut rig = Rig::new(ram_disk(), 2, faults);
    let due = |rig: &mut Rig<_>| rig.with(|transport, device, _| transport.due(device));
    rig.read(0, 512);
    let _ = rig.notify();
    assert!(due(&mut rig) <= HZ / 100);
    // It is broken: nobody may poll it, however late it is.
    let _ = rig.notify();
    assert_eq!(due(&mut rig), u64::MAX);
    let _ = rig.with(|transport, device, _| transport.reset(device));
    assert_eq!(due(&mut rig), u64::MAX);
}

/// Writes down what happens to a cable.
#[derive(Default)]
struct Cable(std::sync::Mutex<Vec<bool>>);

impl Link for Cable {
    fn set_up(&self, is_up: bool) {
        self.0.lock().expect("nobody panics").push(is_up);
    }
}

#[test]
fn a_link_goes_down_and_up() {
    let faults = always(|faults| {
        faults.link = Often::From { nth: 1, every: 0 };
        faults.drop = Often::From { nth: 2, every: 0 };
    });
    let cable: &'static Cable = Box::leak(Box::default());
    let mut probe = Probe::new(0);
    let clock = Clock::new();
    let mut device = FaultyDevice::new(&mut probe, faults, &clock, Some(cable));
    let mut env = Env {
        memory: Ram::leaked(16),
        now: 50,
        frequency: HZ,
        trace: None,
    };
    let moves = || core::mem::take(&mut *cable.0.lock().expect("nobody panics"));
    let _ = device.serve(1, &mut env);
    assert_eq!(moves(), []);
    let _ = device.serve(1, &mut env);
    assert_eq!(moves(), [false]);
    let due = device.due();
    assert!(due > 50 && due <= 50 + HZ / 10);
    env.now = due;
    let _ = device.poll(&mut env);
    assert_eq!(moves(), [true]);
    assert_eq!(device.due(), u64::MAX);
    // What is lost is sent with the cable out, which nobody else sees.
    let _ = device.serve(1, &mut env);
    assert_eq!(moves(), [false, true]);
    let _ = device.serve(1, &mut env);
    assert_eq!(moves(), []);
    assert_eq!(probe.served, [1, 1, 1, 1]);
}

#[test]
fn a_notification_is_served_late() {
    let faults = always(|faults| faults.delay = Often::From { nth: 0, every: 0 });
    let mut probe = Probe::new(0);
    let clock = Clock::new();
    let mut device = FaultyDevice::new(&mut probe, faults, &clock, None);
    let mut env = Env {
        memory: Ram::leaked(16),
        now: 50,
        frequency: HZ,
        trace: None,
    };
    assert_eq!(device.serve(2, &mut env), Served::default());
    let due = device.due();
    assert!(due > 50 && due <= 50 + HZ / 100);
    assert_eq!(device.poll(&mut env), Served::default());
    assert!(device.serve(1, &mut env).used);
    env.now = due;
    assert!(device.poll(&mut env).used);
    assert_eq!(device.poll(&mut env), Served::default());
    assert_eq!(probe.served, [1, 2]);
}
