//! What is advice, and that nothing is that does harm.

use std::collections::BTreeSet;

use super::bugs::layout;
use super::*;

/// What U-Boot 2023.01, EDK2 2022.11 and the crate virtio-drivers 0.13 do in spite of the specification, and nothing else.
#[test]
fn advice_is_what_harms_no_device_of_ours() {
    let advice = RULES.iter().filter(|rule| rule.rank == Rank::Advice);
    let advice: Vec<_> = advice.map(|rule| rule.id).collect();
    assert_eq!(
        advice,
        [
            "no-reset",
            "no-acknowledge",
            "features-unread",
            "register-legacy"
        ]
    );
    let errors = |act: fn(&mut Rig)| {
        let mut rig = Rig::new(2, 0);
        act(&mut rig);
        let ids: BTreeSet<_> = rig.found().into_iter().collect();
        let errors = RULES.iter().filter(|rule| rule.rank == Rank::Error);
        let errors = errors.map(|rule| rule.id);
        errors.filter(|id| ids.contains(id)).collect::<Vec<_>>()
    };
    let u_boot: fn(&mut Rig) = |rig| {
        rig.store(STATUS, 1);
        rig.store(STATUS, 0);
        rig.store(STATUS, 2);
        rig.features(Features::VERSION_1.bits());
        rig.store(STATUS, 2 | 8);
        rig.load(STATUS, 2 | 8);
        rig.queue(0, &layout());
        rig.store(STATUS, 2 | 8 | 4);
    };
    assert_eq!(errors(u_boot), Vec::<&str>::new());
    // The next driver goes on where U-Boot left off.
    let no_reset: fn(&mut Rig) = |rig| {
        rig.begin(Features::VERSION_1.bits());
        rig.store(STATUS, 1);
    };
    assert_eq!(errors(no_reset), ["status-cleared"]);
    // It does not look, and should have.
    let unread: fn(&mut Rig) = |rig| {
        rig.store(STATUS, 0);
        rig.store(STATUS, 3);
        rig.features(Features::VERSION_1.bits() | 1 << 33);
        rig.store(STATUS, 11);
        rig.store(STATUS, 15);
    };
    assert_eq!(errors(unread), ["feature-not-offered"]);
}
