//! A single pass over text that should be canonical JSON (RFC 8785): it says where a value ends, or
//! what is not canonical about it. It builds nothing and rewrites nothing, because what was hashed
//! are the very bytes that stand there.

use std::ops::Range;

use stella_domain::json::{CanonicalJson, MAX_SAFE_INTEGER};

use crate::marks::Marks;

/// Arrays and objects that may stand within each other: what the door for JSON lets in
/// (`stella_domain::json`, through serde_json).
const MAX_DEPTH: u32 = 127;
/// Bytes of the longest number in ECMAScript form are 25 (`-0.000001234567890123456` and the like).
const MAX_NUMBER_BYTES: usize = 32;

/// Text that is not what the format prescribes, to the byte.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset} of the line: {problem}")]
pub struct FormError {
    /// Where, in bytes from 0.
    pub offset: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

/// A place in a text, and the steps on from there.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    marks: Marks,
    at: usize,
    depth: u32,
    max_depth: u32,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let marks = Marks::of(text.as_bytes());
        Self { text, marks, at: 0, depth: 0, max_depth: MAX_DEPTH }
    }

    /// Of a text in which what the door let in stands within so many arrays and objects more.
    pub(crate) fn around(text: &'a str, more: u32) -> Self {
        Self { max_depth: MAX_DEPTH + more, ..Self::new(text) }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The text from `start` to here.
    #[inline(always)]
    pub(crate) fn since(&self, start: usize) -> &'a str {
        // Both ends stand beside ASCII punctuation, so both are character boundaries.
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Exactly this text.
    #[inline(always)]
    pub(crate) fn expect(&mut self, text: &str, problem: &'static str) -> Result<(), FormError> {
        if !self.rest().starts_with(text.as_bytes()) {
            return Err(self.wrong(problem));
        }
        self.at += text.len();
        Ok(())
    }

    /// Whether this text stands here; if so, go past it.
    #[inline(always)]
    pub(crate) fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text.as_bytes());
        self.at += if found { text.len() } else { 0 };
        found
    }

    /// The next `N` bytes, where `N` hex digits should stand.
    #[inline(always)]
    pub(crate) fn digits_of<const N: usize>(&mut self) -> Result<&'a [u8; N], FormError> {
        let digits = self.rest().first_chunk();
        let digits = digits.ok_or_else(|| self.wrong("the line ends within a hash or a salt"))?;
        self.at += N;
        Ok(digits)
    }

    /// Nothing more.
    pub(crate) fn end(&self, problem: &'static str) -> Result<(), FormError> {
        if self.rest().is_empty() { Ok(()) } else { Err(self.wrong(problem)) }
    }

    /// An integer from 0 to 2^53−1.
    #[inline(always)]
    pub(crate) fn integer(&mut self) -> Result<u64, FormError> {
        let (value, digits) = self.digits();
        let canonical = digits == 1 || self.rest_from(self.at - digits).first() != Some(&b'0');
        if digits == 0 || digits > 16 || !canonical || value > MAX_SAFE_INTEGER {
            return Err(self.wrong("an integer stands here, from 0 to 9007199254740991"));
        }
        Ok(value)
    }

    /// A string; its text between the quotes, as written.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Result<&'a str, FormError> {
        let between = self.past_string()?;
        // Quotes stand around it, so both ends are character boundaries.
        Ok(self.text.get(between).unwrap_or_default())
    }

    /// Go past a string; where its text stands, between the quotes.
    #[inline(always)]
    fn past_string(&mut self) -> Result<Range<usize>, FormError> {
        if self.rest().first() != Some(&b'"') {
            return Err(self.wrong("a string stands here"));
        }
        self.at += 1;
        let start = self.at;
        loop {
            self.at = self.marks.next(self.at).min(self.text.len());
            match self.rest().first() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(start..self.at - 1);
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.wrong("a control character in a string is escaped")),
                None => return Err(self.wrong("the line ends within a string")),
            }
        }
    }

    /// An object and all that is in it.
    pub(crate) fn object(&mut self) -> Result<(), FormError> {
        self.descend("{", "an object stands here")?;
        if !self.eat("}") {
            let mut before = None;
            loop {
                let start = self.at;
                let name = Name::new(self.text, self.past_string()?);
                if before.is_some_and(|before: Name<'_>| !before.precedes(&name)) {
                    let problem = "members stand in the order of their names, each once";
                    return Err(FormError { offset: start, problem });
                }
                before = Some(name);
                self.expect(":", "a colon stands between a member's name and its value")?;
                self.value()?;
                if self.eat("}") {
                    break;
                }
                self.expect(",", "a comma or the object's end stands here")?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self) -> Result<(), FormError> {
        self.descend("[", "an array stands here")?;
        if !self.eat("]") {
            loop {
                self.value()?;
                if self.eat("]") {
                    break;
                }
                self.expect(",", "a comma or the array's end stands here")?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn descend(&mut self, open: &str, problem: &'static str) -> Result<(), FormError> {
        self.expect(open, problem)?;
        self.depth += 1;
        if self.depth > self.max_depth {
            return Err(self.wrong("arrays and objects stand too deep within each other"));
        }
        Ok(())
    }

    fn value(&mut self) -> Result<(), FormError> {
        const PROBLEM: &str = "a value stands here, with no white space around it";
        match self.rest().first() {
            Some(b'"') => self.past_string().map(drop),
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.expect("true", PROBLEM),
            Some(b'f') => self.expect("false", PROBLEM),
            Some(b'n') => self.expect("null", PROBLEM),
            _ => Err(self.wrong(PROBLEM)),
        }
    }

    /// A number as ECMAScript writes it (RFC 8785, section 3.2.2.3).
    fn number(&mut self) -> Result<(), FormError> {
        let start = self.at;
        let negative = self.eat("-");
        let (value, digits) = self.digits();
        let leading_zero = digits > 1 && self.rest_from(self.at - digits).first() == Some(&b'0');
        let integer = !matches!(self.rest().first(), Some(b'.' | b'e' | b'E'));
        let negative_zero = negative && value == 0;
        let safe = (1..=16).contains(&digits) && value <= MAX_SAFE_INTEGER;
        if integer && safe && !leading_zero && !negative_zero {
            return Ok(());
        }
        let part_of_number = |b: &&u8| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
        let len = self.rest_from(start).iter().take_while(part_of_number).count();
        self.at = start + len;
        if len <= MAX_NUMBER_BYTES && is_canonical_number(self.since(start)) {
            return Ok(());
        }
        Err(FormError { offset: start, problem: "a number stands here, in its canonical form" })
    }

    /// Go past decimal digits: their value, where they are no more than 16, and their count.
    #[inline(always)]
    fn digits(&mut self) -> (u64, usize) {
        let (mut value, mut count) = (0_u64, 0);
        while let Some(eight) = self.rest().first_chunk() {
            let (of_these, digits) = leading_digits(*eight);
            value = value.wrapping_mul(POWERS[digits]).wrapping_add(of_these);
            count += digits;
            self.at += digits;
            if digits < 8 {
                return (value, count);
            }
        }
        while let Some(digit @ b'0'..=b'9') = self.rest().first() {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            count += 1;
            self.at += 1;
        }
        (value, count)
    }

    /// An escape as RFC 8785, section 3.2.2.2, writes it: only where it must be, and short if it can.
    fn escape(&mut self) -> Result<(), FormError> {
        let len = match self.rest() {
            [_, b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            // U+0000 is no I-JSON here; \b, \t, \n, \f and \r have their short forms.
            [_, b'u', b'0', b'0', b'0', b'1'..=b'7' | b'b' | b'e' | b'f', ..]
            | [_, b'u', b'0', b'0', b'1', b'0'..=b'9' | b'a'..=b'f', ..] => 6,
            _ => return Err(self.wrong("an escape that canonical JSON does not write")),
        };
        self.at += len;
        Ok(())
    }

    #[inline(always)]
    fn rest(&self) -> &'a [u8] {
        self.rest_from(self.at)
    }

    #[inline(always)]
    fn rest_from(&self, at: usize) -> &'a [u8] {
        self.text.as_bytes().get(at..).unwrap_or_default()
    }

    fn wrong(&self, problem: &'static str) -> FormError {
        FormError { offset: self.at, problem }
    }
}

/// 1 in each byte of a word.
const EACH: u64 = u64::MAX / 255;
/// Of ten, as far as the digits of a word go.
const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The value and the count of the digits that `bytes` begin with, all of them at once.
#[inline(always)]
fn leading_digits(bytes: [u8; 8]) -> (u64, usize) {
    // Digits become their values, and bytes that are none get their top bit set; one after such a
    // byte may be wrong by a carry, which does not matter for the first.
    let values = u64::from_le_bytes(bytes) ^ (EACH * 0x30);
    let others = (values.wrapping_add(EACH * 0x76) | values) & (EACH << 7);
    let count = others.trailing_zeros() / 8;
    // The first is the most significant, and zeros stand before it.
    let digits = values.checked_shl(64 - 8 * count).unwrap_or(0);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let every_other = |pairs: u64| pairs & 0x0000_00ff_0000_00ff;
    let high = every_other(pairs).wrapping_mul(100 + (1_000_000 << 32));
    let low = every_other(pairs >> 16).wrapping_mul(1 + (10_000 << 32));
    (high.wrapping_add(low) >> 32, count as usize)
}

/// The name of a member, as it is written.
#[derive(Clone)]
struct Name<'a> {
    text: &'a str,
    /// Where in the text.
    at: Range<usize>,
    /// Its first eight bytes, with zeros where there are less: as numbers they are in the order of the
    /// bytes. Most names differ in them.
    first: u64,
}

impl<'a> Name<'a> {
    #[inline(always)]
    fn new(text: &'a str, at: Range<usize>) -> Self {
        let rest = text.as_bytes().get(at.start..).unwrap_or_default();
        let eight = rest
            .first_chunk()
            .copied()
            .unwrap_or_else(|| std::array::from_fn(|i| rest.get(i).copied().unwrap_or_default()));
        let behind = 64 - 8 * at.len().min(8) as u32;
        let word = u64::from_be_bytes(eight);
        let first = word.checked_shr(behind).and_then(|word| word.checked_shl(behind)).unwrap_or(0);
        Self { text, at, first }
    }

    /// Whether it stands before `other`: by UTF-16 code units (RFC 8785, section 3.2.3).
    #[inline(always)]
    fn precedes(&self, other: &Self) -> bool {
        // ASCII without escapes is in the order of its bytes, up to where they differ.
        let other_than_ascii = (self.first | other.first) & (EACH << 7);
        let escapes = [self, other].map(|name| {
            let word = name.first ^ (EACH * u64::from(b'\\'));
            word.wrapping_sub(EACH) & !word & (EACH << 7)
        });
        if self.first != other.first && other_than_ascii == 0 && escapes == [0, 0] {
            return self.first < other.first;
        }
        precedes(self.as_str(), other.as_str())
    }

    /// Seldom looked at: that it begins and ends with a character need not be checked each time.
    fn as_str(&self) -> &'a str {
        self.text.get(self.at.clone()).unwrap_or_default()
    }
}

/// [`Name::precedes`], whatever the names are.
#[cold]
fn precedes(a: &str, b: &str) -> bool {
    // From here on the order of UTF-8 is not that of UTF-16: surrogates lie below U+E000.
    let unusual = |name: &str| name.bytes().any(|byte| byte == b'\\' || byte >= 0xee);
    if !unusual(a) && !unusual(b) {
        return a < b;
    }
    let units = |name: &str| -> Vec<u16> {
        // Only canonical escapes reach this, so reading them cannot fail.
        let name: String = serde_json::from_str(&format!("\"{name}\"")).unwrap_or_default();
        name.encode_utf16().collect()
    };
    units(a) < units(b)
}

fn is_canonical_number(token: &str) -> bool {
    CanonicalJson::parse(token).is_ok_and(|number| number.as_str() == token)
}

#[cfg(test)]
mod tests;
