//! The time of a signature, as the signature spells it.

use core::fmt;

use time::{OffsetDateTime, UtcOffset};

use super::SigV4Error;

/// A time in UTC as `20260901T000000Z`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Timestamp([u8; 16]);

impl Timestamp {
    /// Writes a time, leaving out fractions of its second.
    ///
    /// # Errors
    /// [`SigV4Error::Time`] for a year before 0 or after 9999.
    pub fn new(time: OffsetDateTime) -> Result<Self, SigV4Error> {
        let time = time
            .checked_to_offset(UtcOffset::UTC)
            .ok_or(SigV4Error::Time)?;
        let year = u16::try_from(time.year())
            .ok()
            .filter(|year| *year <= 9999)
            .ok_or(SigV4Error::Time)?;
        let [hundreds, years] = [year / 100, year % 100].map(|part| two_digits(part as u8));
        let [month, day] = [u8::from(time.month()), time.day()].map(two_digits);
        let [hour, minute, second] = [time.hour(), time.minute(), time.second()].map(two_digits);
        Ok(Self([
            hundreds[0],
            hundreds[1],
            years[0],
            years[1],
            month[0],
            month[1],
            day[0],
            day[1],
            b'T',
            hour[0],
            hour[1],
            minute[0],
            minute[1],
            second[0],
            second[1],
            b'Z',
        ]))
    }

    /// The whole time: `20260901T000000Z`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        text(&self.0)
    }

    /// The day alone: `20260901`.
    #[must_use]
    pub fn date(&self) -> &str {
        let [date @ .., _, _, _, _, _, _, _, _] = &self.0;
        text(date)
    }
}

#[inline]
fn text(digits: &[u8]) -> &str {
    core::str::from_utf8(digits).unwrap_or_default()
}

const fn two_digits(value: u8) -> [u8; 2] {
    [b'0' + value / 10, b'0' + value % 10]
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
