//! What a person is told of a run that did not end well: the cause first, and no guest blamed for it.

use std::time::Duration;

use super::launch::Ending;
use super::outcome::{End, Outcome};
use crate::say;

/// One line for a person.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// No fault.
    Note(String),
    /// A fault.
    Error(String),
}

/// What there is to say; `limit` is when we would have ended the run.
pub fn of(outcome: &Outcome, ending: &Ending, limit: Option<Duration>) -> Vec<Said> {
    let mut said = Vec::new();
    if let (Ending::Failed(why), false) = (ending, outcome.spoke()) {
        let why = if why.is_empty() {
            "it did not say why"
        } else {
            why
        };
        return vec![Said::Error(format!("QEMU did not run the machine: {why}"))];
    }
    if !outcome.spoke() {
        said.push(Said::Error(
            "the hypervisor never spoke: XDV needs an AArch64 CPU with EL2 and a GICv3 (tested: max, cortex-a57)"
                .to_owned(),
        ));
    }
    if let Some(why) = outcome.refused() {
        said.push(Said::Error(format!(
            "the hypervisor refused the machine: {why}"
        )));
    }
    if let Some(panic) = outcome.panic() {
        said.push(Said::Error(format!("the hypervisor failed: {panic}")));
    }
    match ending {
        Ending::Interrupted => {}
        _ if outcome.any_started() => {
            said.extend(outcome.guests().iter().map(guest));
            said.extend(total(outcome));
        }
        _ if outcome.spoke() => said.push(Said::Error("no guest was started".to_owned())),
        Ending::ByItself | Ending::Failed(_) | Ending::AfterTheEnd | Ending::TimedOut => {}
    }
    match ending {
        Ending::ByItself | Ending::AfterTheEnd => {}
        Ending::Interrupted => said.push(Said::Note("the run was ended by hand".to_owned())),
        Ending::Failed(why) if why.is_empty() => {
            said.push(Said::Error("QEMU ended with an error".to_owned()));
        }
        Ending::Failed(why) => said.push(Said::Error(format!("QEMU ended with an error: {why}"))),
        Ending::TimedOut => said.push(Said::Error(format!(
            "nothing ended the run within {}; QEMU was stopped",
            say::seconds(limit.unwrap_or_default())
        ))),
    }
    said
}

/// With more than one guest, how many of them ended well.
fn total(outcome: &Outcome) -> Option<Said> {
    let all = outcome.guests().len();
    let well = outcome
        .guests()
        .iter()
        .filter(|(_, end)| *end == End::Well)
        .count();
    (all > 1).then(|| Said::Note(format!("{well} of {all} guests ended well")))
}

fn guest((name, end): &(String, End)) -> Said {
    let text = format!("guest {name}: {end}");
    if *end == End::Well {
        Said::Note(text)
    } else {
        Said::Error(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[&str], ending: &Ending) -> Vec<String> {
        let mut outcome = Outcome::expecting(&["alpha".to_owned(), "beta".to_owned()]);
        lines.iter().for_each(|line| outcome.take(line));
        let said = of(&outcome, ending, Some(Duration::from_secs(30)));
        said.into_iter()
            .map(|said| match said {
                Said::Note(text) => text,
                Said::Error(text) => format!("error: {text}"),
            })
            .collect()
    }

    #[test]
    fn a_refusal_is_the_cause_and_no_guest_is_blamed() {
        assert_eq!(
            after(&["xdv | refused: no GICv3"], &Ending::ByItself),
            [
                "error: the hypervisor refused the machine: no GICv3",
                "error: no guest was started"
            ]
        );
    }

    #[test]
    fn an_emulator_that_does_not_start_is_one_line_with_its_own_words() {
        let failed = Ending::Failed("unable to find CPU model 'x'".to_owned());
        assert_eq!(
            after(&[], &failed),
            ["error: QEMU did not run the machine: unable to find CPU model 'x'"]
        );
    }

    #[test]
    fn a_silent_machine_says_what_xdv_needs() {
        let silent = after(&["firmware"], &Ending::TimedOut);
        assert_eq!(silent.len(), 2, "{silent:?}");
        assert!(silent[0].contains("EL2 and a GICv3"));
        let silent = after(&[], &Ending::Interrupted);
        assert!(silent[0].contains("never spoke") && silent[1] == "the run was ended by hand");
    }

    #[test]
    fn guests_that_ran_are_each_named() {
        let said = after(
            &[
                "xdv | guest alpha: ended well",
                "xdv | guest beta: ended with code 3",
                "xdv | all guests ended",
            ],
            &Ending::ByItself,
        );
        assert_eq!(
            said,
            [
                "guest alpha: ended well",
                "error: guest beta: ended with code 3",
                "1 of 2 guests ended well"
            ]
        );
    }
}
