//! What a guest asks for by HVC or SMC and EL2 carries out.

use dustlib_k_abi::{ConsoleWrite, Status};
use hypervisor_arch::hardware::ThisCpu;
use stage2_addr::Ipa;
use vcpu::lane::{Cause, Vcpu, Verdict};
use vcpu::psci::{self, Outcome};
use vcpu::serve::Lines;
use vcpu::smccc::{Request, Results};
use vcpu::vgic::VirtGic;

use crate::vm::Vm;

/// Bytes copied out of a guest at a time, so that a long text costs no more stack than a short one.
const CHUNK: usize = 256;

/// A call. `done` is how the guest goes on after an answer: an HVC's return address is past it, an SMC's is not.
pub fn call(
    vm: &'static Vm,
    lane: &mut Vcpu<'static>,
    imm: u16,
    done: Verdict,
    hw: &mut ThisCpu,
) -> Verdict {
    match vcpu::serve::call(lane, imm) {
        Request::Return(results) => answer(lane, results, done),
        Request::ConsoleWrite(write) => {
            let (status, taken) = console_write(vm, write);
            answer(lane, Results::Two([status.to_register(), taken]), done)
        }
        Request::Exit(code) => Verdict::Stop(Cause::Exit(code.0)),
        Request::Psci(call) => power(vm, lane, call, done, hw),
    }
}

fn answer(lane: &mut Vcpu<'static>, results: Results, done: Verdict) -> Verdict {
    results.apply(&mut lane.context.x);
    done
}

/// PSCI, judged by `vcpu`, carried out here.
fn power(
    vm: &'static Vm,
    lane: &mut Vcpu<'static>,
    call: psci::Call,
    done: Verdict,
    hw: &mut ThisCpu,
) -> Verdict {
    match psci::serve(call, &vm.machine.power, |entry| vm.machine.is_ram(entry)) {
        Outcome::Return(value) => answer(lane, Results::One(value), done),
        Outcome::PowerOn {
            lane: target,
            entry,
            context,
        } => {
            if let Some(seat) = vm.seats.get(target) {
                seat.order(entry.raw(), context);
                // Not through the mailbox: the lane is off, and its mail is for when it is on.
                hw.send_sgi(seat.kick);
            }
            answer(lane, Results::One(0), done)
        }
        // A pinned lane's standby ends at once: the architecture lets it, and the guest looks again.
        Outcome::Suspend => answer(lane, Results::One(0), done),
        Outcome::PowerOffSelf => Verdict::Yield,
        Outcome::SystemOff => Verdict::Stop(Cause::Exit(0)),
        Outcome::SystemReset => Verdict::Stop(Cause::Reset),
    }
}

/// Prints a guest's text: copied out chunk by chunk, each chunk once.
fn console_write(vm: &'static Vm, write: ConsoleWrite) -> (Status, u64) {
    let mut chunk = [0; CHUNK];
    let mut taken = 0;
    let mut port = vm.port();
    while taken < write.len() {
        let left = usize::try_from(write.len() - taken)
            .unwrap_or(CHUNK)
            .min(CHUNK);
        let Some(bytes) = chunk.get_mut(..left) else {
            break;
        };
        let from = Ipa::new(write.address().saturating_add(taken));
        if vm.read(from, bytes).is_none() {
            return (Status::InvalidParameters, taken);
        }
        let mut console = vm.machine.console.lock();
        for byte in bytes.iter() {
            console.line.push(*byte, &mut |text: &str| port.line(text));
        }
        taken += left as u64;
    }
    (Status::Success, taken)
}
