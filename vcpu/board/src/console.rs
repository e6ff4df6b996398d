//! A guest's console bytes become whole lines that are safe to show.
//!
//! Several guests share one terminal. Lines are never mixed, and nothing a guest sends may steer the terminal: control
//! and escape bytes, bytes that are not UTF-8, and characters that reorder or break text are shown as `\xNN`.

/// The longest line, in bytes as shown. A longer one is cut here and goes on in the next.
pub const LINE_MAX: usize = 256;

/// Collects one guest's bytes into lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineBuffer {
    text: [u8; LINE_MAX],
    length: usize,
    /// The bytes of a character that is not complete yet.
    partial: [u8; 4],
    partial_length: usize,
    /// A carriage return whose line feed may follow.
    carriage: bool,
    /// While the line is empty: the last one was cut, and a line feed ends that one and makes no empty line.
    cut: bool,
    /// How many lines were ended, around.
    ended: u32,
}

/// How far a guest's output has come. Two that are equal: nothing was added in between that would be shown.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Mark {
    ended: u32,
    length: usize,
}

impl Mark {
    /// Nothing was written yet.
    pub const START: Self = Self {
        ended: 0,
        length: 0,
    };
}

impl Default for LineBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl LineBuffer {
    /// No bytes yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            text: [0; LINE_MAX],
            length: 0,
            partial: [0; 4],
            partial_length: 0,
            carriage: false,
            cut: false,
            ended: 0,
        }
    }

    /// Takes one byte; calls `emit` with each line that is finished by it, without its line feed.
    #[inline]
    pub fn push(&mut self, byte: u8, emit: &mut dyn FnMut(&str)) {
        if !self.push_plain(byte) {
            self.push_special(byte, emit);
        }
    }

    /// How long the line may become by plain text, as [`push_below`](Self::push_below) wants it: zero, if what came before
    /// has to be settled first.
    #[inline]
    #[must_use]
    pub const fn open(&self) -> u8 {
        const OPEN: u8 = u8::MAX;
        const { assert!(LINE_MAX == OPEN as usize + 1) };
        if self.partial_length != 0 || self.carriage {
            0
        } else {
            OPEN
        }
    }

    /// Takes a byte of plain text if the line is shorter than what [`open`](Self::open) said when that text began, as
    /// [`push`](Self::push) would; false, and nothing changed, if not.
    #[inline(always)]
    pub fn push_below(&mut self, open: u8, byte: u8) -> bool {
        let length = self.length;
        if length >= usize::from(open) {
            return false;
        }
        if let Some(place) = self.text.get_mut(length) {
            *place = byte;
        }
        self.length = length + 1;
        true
    }

    /// Takes a carriage return, as [`push`](Self::push) would while the line is [`open`](Self::open).
    #[inline(always)]
    pub const fn push_carriage(&mut self) {
        self.carriage = true;
    }

    /// Takes one byte of what most lines are made of: plain text with room left behind it, or a carriage return. False,
    /// and nothing changed, if it is anything else, or what came before it has to be settled.
    #[inline(always)]
    fn push_plain(&mut self, byte: u8) -> bool {
        if self.partial_length != 0 {
            return false;
        }
        if !matches!(byte, 0x20..=0x7e) {
            // Terminals' drivers send several in a row.
            self.carriage |= byte == b'\r';
            return byte == b'\r';
        }
        let length = self.length;
        if length >= LINE_MAX - 1 || self.carriage {
            return false;
        }
        if let Some(place) = self.text.get_mut(length) {
            *place = byte;
        }
        self.length = length + 1;
        true
    }

    /// Takes as many bytes from the beginning as are plain text with room left behind it; how many. Of what
    /// [`push_plain`](Self::push_plain) would take, all but the last few, eight at a time.
    #[inline]
    pub fn push_text(&mut self, bytes: &[u8]) -> usize {
        if self.partial_length != 0 || self.carriage {
            return 0;
        }
        let room = (LINE_MAX - 1).saturating_sub(self.length);
        let bytes = bytes.get(..room).unwrap_or(bytes);
        let (words, _) = bytes.as_chunks::<8>();
        let plain = words
            .iter()
            .take_while(|word| is_plain(u64::from_le_bytes(**word)));
        let count = plain.count() * 8;
        let end = self.length + count;
        if let (Some(place), Some(text)) = (self.text.get_mut(self.length..end), bytes.get(..count))
        {
            place.copy_from_slice(text);
            self.length = end;
        }
        count
    }

    /// Shows what has come of an unfinished line, if anything: the guest ended, or was silent for long.
    pub fn flush(&mut self, emit: &mut dyn FnMut(&str)) {
        self.settle(emit);
        if self.length != 0 {
            self.end_line(emit);
        }
        self.cut = false;
    }

    /// The unfinished line as it will be shown, without what may yet turn out to be part of a character or of the
    /// line's end. What is added only ever makes it longer, until the line ends: then it is the beginning of that line.
    #[must_use]
    pub fn unfinished(&self) -> &str {
        let bytes = self.text.get(..self.length).unwrap_or(&[]);
        // Only whole characters were appended.
        core::str::from_utf8(bytes).unwrap_or_default()
    }

    /// How far the output has come.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        let Self { ended, length, .. } = *self;
        Mark { ended, length }
    }

    /// Whether bytes wait for the end of their line.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0 && self.partial_length == 0 && !self.carriage
    }

    #[cold]
    #[inline(never)]
    fn push_special(&mut self, byte: u8, emit: &mut dyn FnMut(&str)) {
        match byte {
            b'\n' => {
                self.carriage = false;
                self.settle(emit);
                if self.length != 0 || !self.cut {
                    self.end_line(emit);
                }
                self.cut = false;
            }
            b'\r' => {
                self.settle_partial(emit);
                self.carriage = true;
            }
            b'\t' | 0x20..=0x7e => {
                self.settle(emit);
                self.append(&[byte], emit);
            }
            0x80.. => {
                self.settle_carriage(emit);
                self.push_foreign(byte, emit);
            }
            _ => {
                self.settle(emit);
                self.escape(byte, emit);
            }
        }
    }

    /// A byte of a character outside ASCII.
    fn push_foreign(&mut self, byte: u8, emit: &mut dyn FnMut(&str)) {
        if self.partial_length != 0 && !matches!(byte, 0x80..=0xbf) {
            self.settle_partial(emit);
        }
        if let Some(slot) = self.partial.get_mut(self.partial_length) {
            *slot = byte;
            self.partial_length += 1;
        }
        let partial = self.partial;
        let bytes = partial.get(..self.partial_length).unwrap_or(&[]);
        match core::str::from_utf8(bytes) {
            Ok(text) => {
                if text.chars().all(is_harmless) {
                    self.partial_length = 0;
                    self.append(bytes, emit);
                } else {
                    self.settle_partial(emit);
                }
            }
            // No length: the bytes so far are the beginning of a character.
            Err(error) if error.error_len().is_none() => {}
            Err(_) => self.settle_partial(emit),
        }
    }

    fn settle(&mut self, emit: &mut dyn FnMut(&str)) {
        self.settle_carriage(emit);
        self.settle_partial(emit);
    }

    /// A carriage return without a line feed would overwrite what is shown.
    fn settle_carriage(&mut self, emit: &mut dyn FnMut(&str)) {
        if core::mem::take(&mut self.carriage) {
            self.escape(b'\r', emit);
        }
    }

    /// Bytes that turned out not to be a character, or not one to show.
    fn settle_partial(&mut self, emit: &mut dyn FnMut(&str)) {
        let partial = self.partial;
        let length = core::mem::take(&mut self.partial_length);
        for byte in partial.iter().take(length) {
            self.escape(*byte, emit);
        }
    }

    fn escape(&mut self, byte: u8, emit: &mut dyn FnMut(&str)) {
        self.append(&[b'\\', b'x', hex(byte >> 4), hex(byte & 0xf)], emit);
    }

    /// Adds an item that must not be torn apart, ending the line first if it does not fit.
    fn append(&mut self, item: &[u8], emit: &mut dyn FnMut(&str)) {
        if self.length + item.len() > LINE_MAX {
            self.end_line(emit);
        }
        let end = self.length + item.len();
        if let Some(place) = self.text.get_mut(self.length..end) {
            place.copy_from_slice(item);
            self.length = end;
        }
        if self.length == LINE_MAX {
            self.end_line(emit);
            self.cut = true;
        }
    }

    fn end_line(&mut self, emit: &mut dyn FnMut(&str)) {
        let bytes = self.text.get(..self.length).unwrap_or(&[]);
        // Only whole characters were appended.
        emit(core::str::from_utf8(bytes).unwrap_or("\\?"));
        self.length = 0;
        self.ended = self.ended.wrapping_add(1);
    }
}

/// Neither a C1 control, nor a line separator, nor one that changes the direction of text.
const fn is_harmless(character: char) -> bool {
    !matches!(
        character,
        '\u{80}'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

const fn hex(nibble: u8) -> u8 {
    if nibble < 10 {
        b'0' + nibble
    } else {
        b'a' + nibble - 10
    }
}

/// Whether all eight bytes are in 0x20 to 0x7e. A byte that is not sets the top bit of a byte: by itself, by borrowing
/// when 0x20 is taken away, or because 0x7f and one are 0x80.
const fn is_plain(word: u64) -> bool {
    const ONES: u64 = u64::MAX / 0xff;
    (word | word.wrapping_sub(ONES * 0x20) | word.wrapping_add(ONES)) & (ONES * 0x80) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec::Vec;

    fn lines_of(bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buffer = LineBuffer::default();
        let mut emit = |line: &str| lines.push(String::from(line));
        for byte in bytes {
            buffer.push(*byte, &mut emit);
        }
        buffer.flush(&mut emit);
        assert!(buffer.is_empty());
        lines
    }

    #[test]
    fn lines_end_at_line_feeds_with_or_without_carriage_returns() {
        assert_eq!(
            lines_of(b"one\ntwo\r\n\nthree\r\r\nfour"),
            ["one", "two", "", "three", "four"]
        );
        assert_eq!(lines_of(b"\r\n"), [""]);
        assert_eq!(lines_of(b""), [""; 0]);
    }

    #[test]
    fn control_and_escape_bytes_become_visible() {
        assert_eq!(
            lines_of(b"\x1b[31mred\x1b[0m\x07\x00\x7f\n"),
            ["\\x1b[31mred\\x1b[0m\\x07\\x00\\x7f"]
        );
        assert_eq!(lines_of(b"50%\r60%\rdone\n"), ["50%\\x0d60%\\x0ddone"]);
        assert_eq!(lines_of(b"a\tb\n"), ["a\tb"]);
        assert_eq!(lines_of(b"end\r"), ["end\\x0d"]);
    }

    #[test]
    fn utf8_passes_and_everything_else_becomes_visible() {
        assert_eq!(
            lines_of("grüße → 日本 🦀\n".as_bytes()),
            ["grüße → 日本 🦀"]
        );
        assert_eq!(lines_of(b"\xff\xfe ok\n"), ["\\xff\\xfe ok"]);
        assert_eq!(lines_of(b"\xe2\x82\n"), ["\\xe2\\x82"]);
        assert_eq!(lines_of(b"\xe2\x82A\n"), ["\\xe2\\x82A"]);
        assert_eq!(lines_of(b"\xc3\xc3\xbc\n"), ["\\xc3ü"]);
        assert_eq!(lines_of(b"\xc3\r\n"), ["\\xc3"]);
        assert_eq!(lines_of(b"\xf0\x9f\xa6"), ["\\xf0\\x9f\\xa6"]);
        // Overlong, surrogate, beyond the end.
        assert_eq!(lines_of(b"\xc0\xaf\n"), ["\\xc0\\xaf"]);
        assert_eq!(lines_of(b"\xed\xa0\x80\n"), ["\\xed\\xa0\\x80"]);
        assert_eq!(lines_of(b"\xf4\x90\x80\x80\n"), ["\\xf4\\x90\\x80\\x80"]);
    }

    #[test]
    fn characters_that_steer_a_terminal_or_reorder_text_become_visible() {
        assert_eq!(lines_of("\u{9b}31m\n".as_bytes()), ["\\xc2\\x9b31m"]);
        for hostile in [
            '\u{85}', '\u{2028}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}',
        ] {
            let shown = lines_of(std::format!("a{hostile}b\n").as_bytes());
            assert!(
                shown[0].is_ascii() && shown[0].starts_with("a\\x") && shown[0].ends_with('b'),
                "{shown:?}"
            );
        }
        for fine in ['\u{a0}', '\u{2027}', '\u{202f}', '\u{2065}', '\u{206a}'] {
            assert_eq!(
                lines_of(std::format!("{fine}\n").as_bytes()),
                [std::format!("{fine}")]
            );
        }
    }

    #[test]
    fn a_long_line_is_cut_between_characters_and_not_followed_by_an_empty_one() {
        let full = [b'x'; LINE_MAX];
        let text = std::str::from_utf8(&full).unwrap();
        assert_eq!(lines_of(&full), [text]);
        assert_eq!(lines_of(&[&full[..], b"\n"].concat()), [text]);
        assert_eq!(lines_of(&[&full[..], b"\n\n"].concat()), [text, ""]);
        assert_eq!(lines_of(&[&full[..], b"y\n"].concat()), [text, "y"]);
        let cut = [&full[..LINE_MAX - 2], "→\n".as_bytes()].concat();
        assert_eq!(lines_of(&cut), [&text[..LINE_MAX - 2], "→"]);
        let cut = [&full[..LINE_MAX - 2], b"\x1b\r\n"].concat();
        assert_eq!(lines_of(&cut), [&text[..LINE_MAX - 2], "\\x1b"]);
    }

    #[test]
    fn text_is_told_from_everything_else() {
        for place in 0..8 {
            for byte in 0..=u8::MAX {
                let mut word = *b"plain  ~";
                word[place] = byte;
                let plain = matches!(byte, 0x20..=0x7e);
                assert_eq!(
                    is_plain(u64::from_le_bytes(word)),
                    plain,
                    "{byte:#x} at {place}"
                );
            }
        }
    }

    proptest! {
        /// The promise that a terminal which shows unfinished lines rests on.
        #[test]
        fn an_unfinished_line_only_grows_into_the_line(bytes in proptest::collection::vec(prop_oneof![
            any::<u8>(), Just(b'\n'), Just(b'\r'), Just(0xc3), Just(0xbc), 0x61_u8..0x64,
        ], 0..600)) {
            let mut buffer = LineBuffer::default();
            let (mut shown, mut mark) = (String::new(), buffer.mark());
            for byte in bytes {
                let mut lines = Vec::new();
                buffer.push(byte, &mut |line: &str| lines.push(String::from(line)));
                if let Some(first) = lines.first() {
                    prop_assert!(first.starts_with(&shown), "{first:?} {shown:?}");
                    shown.clear();
                }
                let now = buffer.unfinished();
                prop_assert!(now.starts_with(&shown));
                prop_assert_eq!(mark == buffer.mark(), lines.is_empty() && now == shown);
                shown = String::from(now);
                mark = buffer.mark();
            }
        }

        /// Eight at a time or one by one: the same.
        #[test]
        fn text_is_taken_as_its_bytes_are(bytes in proptest::collection::vec(prop_oneof![
            any::<u8>(), Just(b'\n'), Just(b'\r'), Just(0xc3), 0x1f_u8..0x21, 0x7d_u8..0x81, 0x61_u8..0x7f, 0x61_u8..0x7f, 0x61_u8..0x7f,
        ], 0..600), cuts in proptest::collection::vec(0usize..80, 0..20)) {
            let (mut one, mut eight) = (LineBuffer::new(), LineBuffer::new());
            let (mut lines, mut same) = (Vec::new(), Vec::new());
            let mut rest = &bytes[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                let mut at = 0;
                while at < now.len() {
                    at += eight.push_text(&now[at..]);
                    if let Some(byte) = now.get(at) {
                        eight.push(*byte, &mut |line: &str| same.push(String::from(line)));
                        at += 1;
                    }
                }
                for byte in now {
                    one.push(*byte, &mut |line: &str| lines.push(String::from(line)));
                }
                prop_assert_eq!(&one, &eight);
                rest = later;
            }
            prop_assert_eq!(lines, same);
        }

        #[test]
        fn nothing_shown_can_steer_a_terminal(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            for line in lines_of(&bytes) {
                prop_assert!(line.len() <= LINE_MAX);
                prop_assert!(line.chars().all(|shown| (!shown.is_control() || shown == '\t') && is_harmless(shown)));
            }
        }

        #[test]
        fn harmless_text_is_shown_unchanged(text in "[a-zA-Zäöü€漢🦀 ]{0,60}(\n[a-zA-Zäöü€漢🦀]{0,60}){0,20}\n") {
            let shown: String = lines_of(text.as_bytes()).iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            prop_assert_eq!(shown, text);
        }
    }
}
