//! A single pass over text that should be canonical JSON (RFC 8785): it says where a value ends, or
//! what is not canonical about it. It builds nothing and rewrites nothing, because what was hashed
//! are the very bytes that stand there.

use stella_domain::json::{CanonicalJson, MAX_SAFE_INTEGER};

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

/// A place in a line, and the steps on from there.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
    max_depth: u32,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0, max_depth: MAX_DEPTH }
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
    pub(crate) fn string(&mut self) -> Result<&'a str, FormError> {
        if self.rest().first() != Some(&b'"') {
            return Err(self.wrong("a string stands here"));
        }
        self.at += 1;
        let start = self.at;
        loop {
            self.at += plain_len(self.rest());
            match self.rest().first() {
                Some(b'"') => {
                    let text = self.since(start);
                    self.at += 1;
                    return Ok(text);
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
                let name = self.string()?;
                if before.is_some_and(|before| !precedes(before, name)) {
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
            Some(b'"') => self.string().map(drop),
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
        let digits = self.rest().iter().take_while(|b| b.is_ascii_digit());
        let (value, count) = digits.fold((0_u64, 0), |(value, count), b| {
            (value.wrapping_mul(10).wrapping_add(u64::from(b - b'0')), count + 1)
        });
        self.at += count;
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

/// How many bytes at the start of `bytes` are neither a quote, a backslash nor a control character.
fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    // The lowest byte for which this sets its top bit is below `n` (n <= 128); bytes above it may
    // be flagged wrongly by the borrow, which does not matter for the first.
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word & (ONES << 7);
    let mut len = 0;
    for chunk in bytes.chunks(8) {
        let special = match chunk.try_into() {
            Ok(chunk) => {
                let word = u64::from_le_bytes(chunk);
                below(word, 0x20)
                    | below(word ^ (ONES * u64::from(b'"')), 1)
                    | below(word ^ (ONES * u64::from(b'\\')), 1)
            }
            Err(_) => {
                let plain = |b: &&u8| !matches!(b, b'"' | b'\\' | ..0x20);
                return len + chunk.iter().take_while(plain).count();
            }
        };
        if special != 0 {
            return len + special.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len
}

/// Whether member `a` stands before member `b`: by UTF-16 code units (RFC 8785, section 3.2.3).
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
