//! The elements of a BSON document, one after the other, of the few kinds that a commit is made of
//! (<https://bsonspec.org/spec.html>).
//!
//! The driver's crate reads every kind there is and checks each name, which for a document of thirty
//! small elements costs several times as much: it was the largest single part of reading a ledger.

/// The value of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Int32(i32),
    Int64(i64),
    /// Of the generic kind.
    Binary(&'a [u8]),
    /// A document within the document.
    Document(&'a [u8]),
    /// An array, which is a document whose names are indexes.
    Array(&'a [u8]),
}

/// What is left of a document's elements.
pub(super) struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// Those of `document`, which begins with its length and ends with a zero.
    pub(super) fn of(document: &'a [u8]) -> Result<Self, String> {
        let length = document.first_chunk().map(|length| i32::from_le_bytes(*length));
        match document.get(4..) {
            Some([elements @ .., 0]) if length == i32::try_from(document.len()).ok() => {
                Ok(Self(elements))
            }
            _ => Err("it is no BSON document, or was cut off".to_owned()),
        }
    }

    /// The next element: its name and its value.
    pub(super) fn next(&mut self) -> Result<Option<(&'a [u8], Value<'a>)>, String> {
        let Some((kind, rest)) = self.0.split_first() else { return Ok(None) };
        let name = rest.iter().position(|byte| *byte == 0).map(|end| &rest[..end]);
        let name = name.ok_or("it ends within the name of a member")?;
        self.0 = &rest[name.len() + 1..];
        match self.value(*kind) {
            Some(value) => Ok(Some((name, value))),
            None => Err(format!(
                "member {:?} has no place there, or not as BSON of kind {kind:#04x}, or is broken",
                String::from_utf8_lossy(name)
            )),
        }
    }

    fn value(&mut self, kind: u8) -> Option<Value<'a>> {
        Some(match kind {
            0x02 => {
                let length = self.length()?;
                let (end, text) = self.take(length)?.split_last()?;
                Value::Text(std::str::from_utf8(text).ok().filter(|_| *end == 0)?)
            }
            0x03 => Value::Document(self.document()?),
            0x04 => Value::Array(self.document()?),
            0x05 => {
                let length = self.length()?;
                let (subtype, bytes) = self.take(length.checked_add(1)?)?.split_first()?;
                Value::Binary(Some(bytes).filter(|_| *subtype == 0)?)
            }
            0x10 => Value::Int32(i32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            0x12 => Value::Int64(i64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            _ => return None,
        })
    }

    fn document(&mut self) -> Option<&'a [u8]> {
        let length = i32::from_le_bytes(*self.0.first_chunk()?);
        self.take(usize::try_from(length).ok()?)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(i32::from_le_bytes(self.take(4)?.try_into().ok()?)).ok()
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use mongodb::bson::{Binary, Bson, doc, oid::ObjectId, spec::BinarySubtype, to_vec};

    use super::*;

    fn elements(document: &[u8]) -> Result<Vec<(String, Value<'_>)>, String> {
        let (mut elements, mut found) = (Elements::of(document)?, vec![]);
        while let Some((name, value)) = elements.next()? {
            found.push((String::from_utf8_lossy(name).into_owned(), value));
        }
        Ok(found)
    }

    #[test]
    fn what_the_crate_writes_is_read() {
        let binary = |subtype| Bson::Binary(Binary { subtype, bytes: vec![1, 2, 3] });
        let inner = doc! { "x": 1 };
        let written = to_vec(&doc! {
            "a": "text, é", "b": 7, "c": -1_i64, "d": binary(BinarySubtype::Generic),
            "e": inner.clone(), "f": [inner.clone()], "": "",
        });
        let written = written.unwrap();
        let (inner, array) = (to_vec(&inner).unwrap(), to_vec(&doc! { "0": inner }).unwrap());
        let expected = [
            ("a", Value::Text("text, é")),
            ("b", Value::Int32(7)),
            ("c", Value::Int64(-1)),
            ("d", Value::Binary(&[1, 2, 3])),
            ("e", Value::Document(&inner)),
            ("f", Value::Array(&array)),
            ("", Value::Text("")),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(elements(&written), Ok(expected.to_vec()));
        // Cut off anywhere, or longer than it says, it is none.
        for end in 0..written.len() {
            assert!(elements(&written[..end]).is_err(), "{end}");
        }
        assert!(elements(&[&written[..], &[0]].concat()).is_err());
        for other in [
            doc! { "x": 1.5 },
            doc! { "x": true },
            doc! { "x": Bson::Null },
            doc! { "x": ObjectId::from_bytes([0; 12]) },
            doc! { "x": binary(BinarySubtype::Uuid) },
        ] {
            assert!(elements(&to_vec(&other).unwrap()).is_err(), "{other}");
        }
    }

    #[test]
    fn no_byte_that_is_changed_makes_it_panic() {
        let binary = Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: vec![9; 32] });
        let written = to_vec(&doc! { "a": "text", "b": 7, "c": 1_i64, "d": binary, "e": [1] });
        let written = written.unwrap();
        for at in 0..written.len() {
            for byte in [0, 1, 2, 4, 5, 0x10, 0x12, 0x7f, 0x80, 0xff] {
                let mut changed = written.clone();
                changed[at] = byte;
                // Whatever comes of it.
                let _ = elements(&changed);
            }
        }
    }
}
