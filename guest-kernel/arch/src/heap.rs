//! The heap: what drivers take their buffers from, and share with their devices.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use guest_kernel_core::addr::PhysRange;
use linked_list_allocator::Heap;
use spin::Mutex;

#[global_allocator]
static HEAP: Locked = Locked(Mutex::new(Heap::empty()));

/// Handlers neither allocate nor free, so that whoever holds the lock goes on.
struct Locked(Mutex<Heap>);

// SAFETY: what is handed out comes from `Heap`, which keeps to the contract of an allocator for the memory it was given,
// under a lock.
unsafe impl GlobalAlloc for Locked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let found = self.0.lock().allocate_first_fit(layout);
        found.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if let Some(at) = NonNull::new(at) {
            // SAFETY: the caller got it from `alloc` with this layout, and does not use it any more.
            unsafe { self.0.lock().deallocate(at, layout) };
        }
    }
}

/// Gives the heap its memory, once. What was given before stays.
pub(crate) fn init(range: PhysRange) {
    let mut heap = HEAP.0.lock();
    let (Ok(start), Ok(len)) = (
        usize::try_from(range.start().get()),
        usize::try_from(range.len()),
    ) else {
        return;
    };
    if heap.size() == 0 {
        // SAFETY: `Free::take` gave this range away for good: mapped, whole pages, nobody else's; and it is the first
        // that the heap has.
        unsafe { heap.init(ptr::with_exposed_provenance_mut(start), len) };
    }
}
