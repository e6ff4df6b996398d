//! Two guests on one network that play with frames.
//!
//! Both do the same: each says hello to everybody until it hears of the other, then sends pings of all sizes and waits
//! for the answer to each, and meanwhile answers the other's. Who has all its answers says so, and goes on answering
//! until the other says so too. Frames of others, and others' kinds of frames, are let by.

use super::{Wrong, stream};

/// Bytes of an Ethernet address.
pub type Mac = [u8; 6];

/// The smallest and the largest frame, without its check sequence (IEEE 802.3, 3.2.7).
const SIZES: core::ops::RangeInclusive<usize> = 60..=1514;
/// A local experimental EtherType (IEEE 802, 9.2.4).
const ETHER_TYPE: [u8; 2] = [0x88, 0xB5];
const EVERYBODY: Mac = [0xFF; 6];
/// Ethernet's header, and ours: what it is, and its number.
const HEADER: usize = 14 + 1 + 8;

/// How long nobody may be there.
pub const ALONE_MS: u64 = 300_000;
/// How long an answer may take before it is asked again, and how often it is: the other's host may stand still meanwhile.
const AGAIN_MS: u64 = 250;
const TRIES: u32 = 120;
/// How long the other may need after it was last heard.
const LINGER_MS: u64 = 30_000;

/// The way to the network.
pub trait Wire {
    /// Sends a frame; says whether it could.
    fn send(&mut self, frame: &[u8]) -> bool;
    /// The next frame, if one comes in so many milliseconds: how many bytes of it are in the buffer.
    fn receive(&mut self, into: &mut [u8], ms: u64) -> Option<usize>;
    /// Milliseconds of some clock.
    fn now(&self) -> u64;
}

/// What was played.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Played {
    /// Pings of ours that were answered.
    pub pings: u64,
    /// Pings of ours that had to be sent again.
    pub again: u64,
    /// Pings of the other's that we answered.
    pub answered: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum What {
    Hello,
    Ping,
    Pong,
    Done,
}

const WHATS: [What; 4] = [What::Hello, What::Ping, What::Pong, What::Done];

struct Player<'w, W> {
    wire: &'w mut W,
    me: Mac,
    other: Option<Mac>,
    is_done: bool,
    played: Played,
}

/// Plays so many rounds.
///
/// # Errors
/// What went wrong.
pub fn play<W: Wire>(wire: &mut W, me: Mac, rounds: u64) -> Result<Played, Wrong> {
    let mut player = Player {
        wire,
        me,
        other: None,
        is_done: false,
        played: Played::default(),
    };
    player.meet()?;
    for number in 0..rounds {
        player.ping(number)?;
    }
    player.part()?;
    Ok(player.played)
}

impl<W: Wire> Player<'_, W> {
    fn meet(&mut self) -> Result<(), Wrong> {
        let end = self.wire.now().saturating_add(ALONE_MS);
        while self.other.is_none() {
            if self.wire.now() >= end {
                return Err(Wrong::Alone);
            }
            self.send(What::Hello, 0)?;
            self.listen(AGAIN_MS, None)?;
        }
        Ok(())
    }

    fn ping(&mut self, number: u64) -> Result<(), Wrong> {
        for _ in 0..TRIES {
            self.send(What::Ping, number)?;
            if self.listen(AGAIN_MS, Some(number))? {
                self.played.pings += 1;
                return Ok(());
            }
            self.played.again += 1;
        }
        Err(Wrong::Mute(self.played.pings))
    }

    /// The other may not have heard that we are done; whether it has, is not known for certain by anybody.
    fn part(&mut self) -> Result<(), Wrong> {
        let mut end = self.wire.now().saturating_add(LINGER_MS);
        while !self.is_done && self.wire.now() < end {
            let answered = self.played.answered;
            self.send(What::Done, 0)?;
            self.listen(AGAIN_MS, None)?;
            if self.played.answered > answered {
                end = self.wire.now().saturating_add(LINGER_MS);
            }
        }
        (0..2).try_for_each(|_| self.send(What::Done, 0))
    }

    fn send(&mut self, what: What, number: u64) -> Result<(), Wrong> {
        let mut frame = [0; *SIZES.end()];
        let length = size(what, number);
        let frame = frame.get_mut(..length).unwrap_or_default();
        write(
            frame,
            self.other.unwrap_or(EVERYBODY),
            self.me,
            what,
            number,
        );
        self.wire
            .send(frame)
            .then_some(())
            .ok_or(Wrong::Refused(number))
    }

    /// Listens for so long, or until the answer of this number comes, and says whether it did. What asks is answered.
    fn listen(&mut self, ms: u64, wanted: Option<u64>) -> Result<bool, Wrong> {
        let end = self.wire.now().saturating_add(ms);
        let mut frame = [0; 2048];
        loop {
            let left = end.saturating_sub(self.wire.now());
            let Some(length) = self.wire.receive(&mut frame, left) else {
                return Ok(false);
            };
            let frame = frame.get(..length).unwrap_or_default();
            let Some((from, to, what, number)) = read(frame)? else {
                continue;
            };
            let is_ours = from != self.me && (to == self.me || to == EVERYBODY);
            if !is_ours || *self.other.get_or_insert(from) != from {
                continue;
            }
            match what {
                What::Hello if wanted.is_none() && !self.is_done => return Ok(false),
                What::Hello => {}
                What::Ping => {
                    self.played.answered += 1;
                    self.send(What::Pong, number)?;
                }
                What::Pong if wanted == Some(number) => return Ok(true),
                // The answer to a ping that was sent twice.
                What::Pong => {}
                What::Done => {
                    self.is_done = true;
                    if wanted.is_none() {
                        return Ok(false);
                    }
                }
            }
        }
    }
}

/// Pings and their answers have all sizes by turns.
fn size(what: What, number: u64) -> usize {
    let sizes = (SIZES.end() - SIZES.start() + 1) as u64;
    let step = match what {
        What::Ping => number.wrapping_mul(977) % sizes,
        What::Pong => number.wrapping_mul(613) % sizes,
        What::Hello | What::Done => 0,
    };
    SIZES.start() + usize::try_from(step).unwrap_or(0)
}

fn write(frame: &mut [u8], to: Mac, from: Mac, what: What, number: u64) {
    let what = WHATS.iter().position(|one| *one == what).unwrap_or(0);
    let [what, ..] = what.to_le_bytes();
    let number = number.to_be_bytes();
    let parts: [&[u8]; 5] = [&to, &from, &ETHER_TYPE, &[what], &number];
    let header = parts.into_iter().flatten();
    frame
        .iter_mut()
        .zip(header)
        .for_each(|(into, byte)| *into = *byte);
    let payload = frame.get_mut(HEADER..).unwrap_or_default();
    stream::fill(u64::from_be_bytes(number), payload);
}

/// From whom, to whom, what and its number, if it is a frame of this game.
///
/// # Errors
/// It is, and is not as it was sent.
fn read(frame: &[u8]) -> Result<Option<(Mac, Mac, What, u64)>, Wrong> {
    let part = |at: usize| frame.get(at..);
    let header = || {
        let to = *part(0)?.first_chunk::<6>()?;
        let from = *part(6)?.first_chunk::<6>()?;
        let kind = *part(12)?.first_chunk::<2>()?;
        let what = *WHATS.get(usize::from(*frame.get(14)?))?;
        let number = u64::from_be_bytes(*part(15)?.first_chunk()?);
        (kind == ETHER_TYPE).then_some((from, to, what, number))
    };
    let Some((from, to, what, number)) = header() else {
        return Ok(None);
    };
    if frame.len() != size(what, number) {
        return Err(Wrong::Changed(number));
    }
    stream::judge(number, frame.get(HEADER..).unwrap_or_default())
        .map_err(|_| Wrong::Changed(number))?;
    Ok(Some((from, to, what, number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::{Arc, Condvar, Mutex};

    /// Two ends of a cable and a clock that moves only when both wait: how fast the host is does not matter.
    #[derive(Default)]
    struct Line {
        now: u64,
        frames: [VecDeque<Vec<u8>>; 2],
        /// Until when an end waits, if it does.
        waits: [Option<u64>; 2],
        gone: [bool; 2],
    }

    impl Line {
        /// When nobody can send anything any more, it is as late as who waits for the shortest time wants it to be.
        fn pass_time(&mut self) {
            let stands =
                |at: usize| self.gone[at] || self.waits[at].is_some() && self.frames[at].is_empty();
            if stands(0) && stands(1) {
                let first = self.waits.into_iter().flatten().min();
                self.now = first.unwrap_or(self.now).max(self.now);
            }
        }
    }

    /// A cable between two threads that loses and spoils some frames.
    struct Cable {
        line: Arc<(Mutex<Line>, Condvar)>,
        end: usize,
        sent: u64,
        loses_every: u64,
        spoils: Option<u64>,
    }

    impl Wire for Cable {
        fn send(&mut self, frame: &[u8]) -> bool {
            self.sent += 1;
            let mut frame = frame.to_vec();
            if self.spoils == Some(self.sent) {
                *frame.last_mut().unwrap() ^= 1;
            }
            if !self.sent.is_multiple_of(self.loses_every) {
                let (line, moved) = &*self.line;
                line.lock().unwrap().frames[1 - self.end].extend([vec![0; 70], frame]);
                moved.notify_all();
            }
            true
        }
        fn receive(&mut self, into: &mut [u8], ms: u64) -> Option<usize> {
            let (line, moved) = &*self.line;
            let mut line = line.lock().unwrap();
            let end = line.now + ms;
            let frame = loop {
                let frame = line.frames[self.end].pop_front();
                if frame.is_some() || line.now >= end {
                    break frame;
                }
                line.waits[self.end] = Some(end);
                let before = line.now;
                line.pass_time();
                if line.now == before {
                    line = moved.wait(line).unwrap();
                } else {
                    moved.notify_all();
                }
            };
            line.waits[self.end] = None;
            let frame = frame?;
            into[..frame.len()].copy_from_slice(&frame);
            Some(frame.len())
        }
        fn now(&self) -> u64 {
            self.line.0.lock().unwrap().now
        }
    }

    impl Drop for Cable {
        fn drop(&mut self) {
            let (line, moved) = &*self.line;
            line.lock().unwrap().gone[self.end] = true;
            moved.notify_all();
        }
    }

    fn cables(loses_every: u64) -> [Cable; 2] {
        let line = Arc::default();
        [0, 1].map(|end| Cable {
            line: Arc::clone(&line),
            end,
            sent: 0,
            loses_every,
            spoils: None,
        })
    }

    fn played([mut a, mut b]: [Cable; 2], rounds: [u64; 2]) -> [Result<Played, Wrong>; 2] {
        let other = std::thread::spawn(move || play(&mut b, [2, 0, 0, 0, 0, 2], rounds[1]));
        let one = play(&mut a, [2, 0, 0, 0, 0, 1], rounds[0]);
        drop(a);
        [one, other.join().unwrap()]
    }

    #[test]
    fn everything_is_answered() {
        let [a, b] = played(cables(u64::MAX), [3000, 100]).map(Result::unwrap);
        assert_eq!((a.pings, b.pings), (3000, 100));
        assert!(b.answered >= 3000 && a.answered >= 100);
    }

    #[test]
    fn what_is_lost_is_asked_again() {
        let [a, b] = played(cables(7), [200, 200]).map(Result::unwrap);
        assert_eq!((a.pings, b.pings), (200, 200));
        // Of some 800 frames every seventh, and whose of them were pings is chance.
        assert!(a.again + b.again > 50, "{a:?} {b:?}");
    }

    #[test]
    fn who_is_alone_or_hears_nonsense_says_so() {
        let [mut a, b] = cables(u64::MAX);
        drop(b);
        assert_eq!(play(&mut a, [2; 6], 1), Err(Wrong::Alone));
        let [mut a, b] = cables(u64::MAX);
        a.spoils = Some(50);
        let [_, b] = played([a, b], [100, 100]);
        assert!(matches!(b, Err(Wrong::Changed(_))), "{b:?}");
    }
}
