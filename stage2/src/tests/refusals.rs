//! What is refused, and how it is said.

use std::format;

use stage2_addr::{HostPhys, HostRegion, Ipa, PageCount};

use super::cases::{G1, K4, M2, machine_with_block, region};
use crate::fakes::FakeMemory;
use crate::{
    Access, Attrs, ChangeError, Geometry, GuestTables, MapError, SettleError, TableQuota,
    TablesError,
};

#[test]
fn what_does_not_fit_is_named() {
    let mut machine = machine_with_block(G1, M2);
    let (tables, memory) = (&mut machine.tables, &mut machine.memory);
    let rw = Attrs::normal(Access::RW);
    let end = 1 << 40;
    let at = HostPhys::new(G1);
    let last = end + K4 - 1;
    let beyond = region(end - K4, 2 * K4);
    assert_eq!(
        tables.map(memory, beyond, at, rw),
        Err(MapError::InputBeyondRange { last })
    );
    assert_eq!(
        tables.unmap(memory, beyond),
        Err(ChangeError::InputBeyondRange { last })
    );
    assert_eq!(
        tables.protect(memory, beyond, Access::RO),
        Err(ChangeError::InputBeyondRange { last })
    );
    assert_eq!(tables.translate(memory, Ipa::new(end)), None);
    assert_eq!(tables.translate(memory, Ipa::new(u64::MAX)), None);
    for base in [1, (1 << 48) - K4, !(K4 - 1)].map(HostPhys::new) {
        assert_eq!(
            tables.map(memory, region(0, 2 * K4), base, rw),
            Err(MapError::BadFrames { base })
        );
    }
    let attrs = Attrs::device(Access::RWX);
    assert_eq!(
        tables.map(memory, region(0, K4), at, attrs),
        Err(MapError::Inadmissible { attrs })
    );
    let attrs = Attrs::normal(Access::empty());
    let refused = tables.protect(memory, region(G1, K4), Access::empty());
    assert_eq!(refused, Err(ChangeError::Inadmissible { attrs }));
    let hole = tables.protect(memory, region(G1 + M2 - K4, 2 * K4), Access::RO);
    assert_eq!(hole, Err(ChangeError::NotMapped { ipa: G1 + M2 }));
    let over = tables.map(memory, region(G1 - K4, 2 * K4), at, rw);
    assert_eq!(over, Err(MapError::AlreadyMapped { ipa: G1 }));
    let last_page = tables.map(
        memory,
        region(end - K4, K4),
        HostPhys::new((1 << 48) - K4),
        rw,
    );
    assert_eq!(last_page, Ok(()));
}

#[test]
fn quotas_are_judged_at_creation() {
    let mut memory = FakeMemory::new();
    let mut new = |base, pages| {
        let frames = HostRegion::new(HostPhys::new(base), PageCount::new(pages)).unwrap();
        GuestTables::new(
            Geometry::new(43, 44).unwrap(),
            TableQuota::new(frames),
            &mut memory,
        )
        .map(|t| t.root())
    };
    assert_eq!(
        new(0x10_0000, 16),
        Ok(HostPhys::new(0x10_0000)),
        "16 concatenated tables"
    );
    let (needed, available) = (PageCount::new(16), PageCount::new(30));
    assert_eq!(
        new(0x10_1000, 30),
        Err(TablesError::NoRoomForRoot { needed, available })
    );
    let last = HostPhys::new((1 << 44) + 0xfff);
    assert_eq!(
        new(1 << 44, 1),
        Err(TablesError::QuotaBeyondMachine { last })
    );
}

#[test]
fn errors_are_sentences() {
    let attrs = Attrs::device(Access::RX);
    let (needed, available) = (PageCount::new(3), PageCount::ONE);
    assert_eq!(
        format!("{}", MapError::AlreadyMapped { ipa: 0x4000 }),
        "0x4000 is mapped already"
    );
    assert_eq!(
        format!("{}", MapError::Inadmissible { attrs }),
        "r-x device is not mapped here"
    );
    let short = MapError::QuotaExhausted { needed, available };
    assert_eq!(
        format!("{short}"),
        "the mapping takes 3 table frames, 1 are left"
    );
    assert_eq!(
        format!(
            "{}",
            MapError::BadFrames {
                base: HostPhys::new(1)
            }
        ),
        "no frames to map at 0x1"
    );
    assert_eq!(
        format!("{}", MapError::InputBeyondRange { last: 1 }),
        "0x1 is beyond the translated range"
    );
    assert_eq!(
        format!("{}", ChangeError::NotMapped { ipa: 1 }),
        "0x1 is not mapped"
    );
    let short = ChangeError::QuotaExhausted { needed, available };
    assert_eq!(
        format!("{short}"),
        "splitting takes 3 table frames, 1 are left"
    );
    assert_eq!(
        format!("{}", ChangeError::Unsettled),
        format!("{}", MapError::Unsettled)
    );
    assert!(format!("{}", ChangeError::Inadmissible { attrs }).contains("device"));
    assert!(format!("{}", ChangeError::InputBeyondRange { last: 1 }).contains("0x1"));
    assert!(format!("{}", SettleError::WrongReceipt).contains("receipt"));
    let room = TablesError::NoRoomForRoot { needed, available };
    assert_eq!(
        format!("{room}"),
        "a root of 3 aligned frames does not fit into a quota of 1"
    );
    assert!(
        format!(
            "{}",
            TablesError::QuotaBeyondMachine {
                last: HostPhys::new(1)
            }
        )
        .contains("0x1")
    );
}
