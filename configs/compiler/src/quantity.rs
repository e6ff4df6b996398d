//! Quantities as text: a whole number and a unit, `"64M"` or `"10ms"`.

/// What is wrong with a quantity, and what was perhaps meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// What is wrong: follows "`memory` …" in a message's label.
    pub(crate) why: String,
    /// How it is written right, where that is clear.
    pub(crate) meant: Option<String>,
}

/// A kind of quantity.
#[derive(Debug)]
pub(crate) struct Kind {
    /// What one is called, with its article, and several of them.
    pub(crate) one: &'static str,
    pub(crate) several: &'static str,
    /// What is said of one that is too large.
    pub(crate) too_large: &'static str,
    /// The units, the largest first, and what each is worth.
    pub(crate) units: &'static [(&'static str, u64)],
    /// What people write for a unit, in small letters.
    pub(crate) spoken: fn(&str) -> Option<u64>,
}

impl Kind {
    /// Reads a whole number and one of the units. `missing` is the unit that who leaves it out probably means.
    pub(crate) fn parse(&self, text: &str, missing: &str) -> Result<u64, Wrong> {
        let wrong = |why: String, meant: Option<String>| Wrong { why, meant };
        let digits_end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        if digits.is_empty() {
            let negative = text.strip_prefix('-');
            let negative =
                negative.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            let one = self.one;
            let why = if negative {
                format!("{one} cannot be negative")
            } else {
                format!("this is not {one}")
            };
            return Err(wrong(why, None));
        }
        if let Some((_, worth)) = self.units.iter().find(|(name, _)| *name == unit) {
            let too_large = || wrong(self.too_large.to_owned(), None);
            return times(digits, *worth).ok_or_else(too_large);
        }
        if unit.is_empty() {
            let meant = Some(format!("{digits}{missing}"));
            return Err(wrong("the unit is missing".to_owned(), meant));
        }
        let plain: String = unit
            .chars()
            .filter(|c| !c.is_whitespace() && *c != '_')
            .collect::<String>()
            .to_lowercase();
        if let Some(fraction) = plain.strip_prefix(['.', ',']) {
            let why = format!("only whole numbers are {}", self.several);
            return Err(wrong(why, self.whole(digits, fraction)));
        }
        let meant = (self.spoken)(&plain).and_then(|worth| self.written(times(digits, worth)?));
        Err(wrong(format!("`{}` is not a unit", unit.trim()), meant))
    }

    /// `1` and `5g` mean `1536M`: a fraction of one unit in whole numbers of a smaller one, where that is exact.
    fn whole(&self, digits: &str, fraction: &str) -> Option<String> {
        let end = fraction.find(|c: char| !c.is_ascii_digit())?;
        let (tenths, unit) = fraction
            .split_at_checked(end)
            .filter(|(tenths, _)| (1..=6).contains(&tenths.len()))?;
        let scale = 10u64.checked_pow(u32::try_from(tenths.len()).ok()?)?;
        let scaled = times(digits, scale)?.checked_add(tenths.parse().ok()?)?;
        let exact = scaled.checked_mul((self.spoken)(unit)?)?;
        self.written(exact.is_multiple_of(scale).then(|| exact / scale)?)
    }

    /// As it is written in a config: in the largest unit that says it exactly, if one does.
    fn written(&self, value: u64) -> Option<String> {
        let (unit, worth) = self.unit(value)?;
        Some(format!("{}{unit}", value / worth))
    }

    /// The largest unit that says a value exactly.
    pub(crate) fn unit(&self, value: u64) -> Option<(&'static str, u64)> {
        let exact = |unit: &&(&str, u64)| value.is_multiple_of(unit.1);
        self.units.iter().find(exact).copied()
    }
}

/// So many times a unit, if any number is so large.
fn times(digits: &str, worth: u64) -> Option<u64> {
    digits.parse::<u64>().ok()?.checked_mul(worth)
}
