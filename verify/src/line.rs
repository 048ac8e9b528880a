//! One line of NDJSON, cut up by position. A line that is cut up is canonical: members, their order
//! and the punctuation between them are matched byte for byte.

use stella_domain::{
    event,
    hash::{self, Hash32, Salt},
    ids::{Actor, LedgerId, StreamId},
    limits::EVENT_PART_BYTES,
    time::Timestamp,
};

use crate::{reason::Reason, scan::Scanner};

/// Bytes that a line may have, its line feed not counted: two full parts, and 4 KiB, which is more
/// than the longest header.
pub const LINE_BYTES: usize = 2 * EVENT_PART_BYTES + 4096;

/// The 64 bytes that stand where a line has a hash. That they are hex digits shows when they equal
/// those of a computed hash.
pub type HexHash = [u8; 64];

/// The digits of [`Hash32::ZERO`].
pub(crate) const ZERO_HEX: &HexHash = &[b'0'; 64];

/// An event as it stands in a line: slices of its text.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Canonical JSON object.
    pub data: &'a str,
    /// Hash of the header.
    pub hash: &'a HexHash,
    /// The whole header, as it was hashed.
    pub header: &'a str,
    /// Who caused the event.
    pub actor: &'a str,
    /// `seq` of the first event of its commit.
    pub commit_seq: u64,
    /// Commitment to the data.
    pub data_hash: &'a HexHash,
    /// `<origin>/<tenant>`.
    pub ledger: &'a str,
    /// Commitment to the payload; zeros if there never was one.
    pub payload_hash: &'a HexHash,
    /// Hash of the event before.
    pub prev: &'a HexHash,
    /// When it was recorded.
    pub recorded_at: &'a str,
    /// Version of this type's data and payload.
    pub schema: u64,
    /// Position in the ledger.
    pub seq: u64,
    /// The aggregate.
    pub stream: &'a str,
    /// Position in the stream.
    pub stream_version: u64,
    /// The event's type.
    pub event_type: &'a str,
    /// Canonical JSON object and its salt, if it is there.
    pub payload: Option<(&'a str, Salt)>,
}

impl<'a> Line<'a> {
    /// Cut up `bytes`, which hold no line feed.
    ///
    /// # Errors
    /// [`Reason`] says what is not canonical.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Reason> {
        if bytes.len() > LINE_BYTES {
            return Err(Reason::LineTooLong { limit: LINE_BYTES });
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Reason::NotUtf8 { offset: error.valid_up_to() })?;
        Self::of_text(text)
    }

    /// [`read`](Self::read), of what is known to be UTF-8.
    pub(crate) fn of_text(text: &'a str) -> Result<Self, Reason> {
        if text.len() > LINE_BYTES {
            return Err(Reason::LineTooLong { limit: LINE_BYTES });
        }
        Self::cut(text).map_err(|reason| match text.as_bytes() {
            [] => Reason::EmptyLine,
            [0xef, 0xbb, 0xbf, ..] => Reason::ByteOrderMark,
            [.., b'\r'] => Reason::CarriageReturn,
            _ => reason,
        })
    }

    /// The line that stands where `scan` is, which goes past it and its line feed; `None` where there
    /// is none: [`read`](Self::read) says why.
    pub(crate) fn next(scan: &mut Scanner<'a>) -> Option<Self> {
        let start = scan.at();
        let line = Self::cut_at(scan).ok().filter(|_| scan.at() - start <= LINE_BYTES)?;
        // Whatever stands where a hash should is taken for its digits, a line feed too.
        let is_one = memchr::memchr(b'\n', scan.since(start).as_bytes()).is_none();
        (is_one && scan.eat("\n")).then_some(line)
    }

    fn cut(text: &'a str) -> Result<Self, Reason> {
        let mut scan = Scanner::new(text);
        let line = Self::cut_at(&mut scan)?;
        scan.end("nothing follows an event's closing brace but a line feed")?;
        Ok(line)
    }

    /// The event that stands where `scan` is.
    pub(crate) fn cut_at(scan: &mut Scanner<'a>) -> Result<Self, Reason> {
        scan.expect("{\"data\":", "a line begins with {\"data\":")?;
        let data = part("data", scan)?;
        scan.expect(",\"hash\":\"", "the member `hash` follows the data")?;
        let hash = scan.digits_of()?;
        scan.expect("\",\"header\":", "the member `header` follows the hash")?;
        let header = scan.at();
        let mut line = Self::cut_header(scan)?;
        (line.data, line.hash, line.header) = (data, hash, scan.since(header));
        scan.expect(",\"payload\":", "the member `payload` follows the header")?;
        const SALT: &str = "the member `salt` follows the payload: null if and only if that is";
        line.payload = if scan.eat("null") {
            scan.expect(",\"salt\":null", SALT)?;
            None
        } else {
            let payload = part("payload", scan)?;
            scan.expect(",\"salt\":\"", SALT)?;
            let salt = salt(scan.digits_of()?).ok_or(Reason::Salt)?;
            scan.expect("\"", SALT)?;
            Some((payload, salt))
        };
        scan.expect("}", "a line ends with }")?;
        Ok(line)
    }

    /// The header's members in the order of their names, each in its canonical form.
    pub(crate) fn cut_header(scan: &mut Scanner<'a>) -> Result<Self, Reason> {
        scan.expect("{\"actor\":", "a header begins with {\"actor\":")?;
        let actor = scan.string()?;
        scan.expect(",\"commitSeq\":", "the member `commitSeq` follows the actor")?;
        let commit_seq = scan.integer()?;
        scan.expect(",\"dataHash\":\"", "the member `dataHash` follows commitSeq")?;
        let data_hash = scan.digits_of()?;
        scan.expect("\",\"ledger\":", "the member `ledger` follows dataHash")?;
        let ledger = scan.string()?;
        scan.expect(",\"payloadHash\":\"", "the member `payloadHash` follows ledger")?;
        let payload_hash = scan.digits_of()?;
        scan.expect("\",\"prev\":\"", "the member `prev` follows payloadHash")?;
        let prev = scan.digits_of()?;
        scan.expect("\",\"recordedAt\":", "the member `recordedAt` follows prev")?;
        let recorded_at = scan.string()?;
        scan.expect(",\"schema\":", "the member `schema` follows recordedAt")?;
        let schema = scan.integer()?;
        scan.expect(",\"seq\":", "the member `seq` follows schema")?;
        let seq = scan.integer()?;
        scan.expect(",\"stream\":", "the member `stream` follows seq")?;
        let stream = scan.string()?;
        scan.expect(",\"streamVersion\":", "the member `streamVersion` follows stream")?;
        let stream_version = scan.integer()?;
        scan.expect(",\"type\":", "the member `type` follows streamVersion")?;
        let event_type = scan.string()?;
        scan.expect(",\"v\":1}", "a header ends with \"v\":1}, the version of the format")?;
        Ok(Self {
            actor,
            commit_seq,
            data_hash,
            ledger,
            payload_hash,
            prev,
            recorded_at,
            schema,
            seq,
            stream,
            stream_version,
            event_type,
            data: "",
            hash: ZERO_HEX,
            header: "",
            payload: None,
        })
    }

    /// Everything about this line that can be told without the lines around it, and that is not
    /// cheaper to check once for many: see `Chain::follow`.
    ///
    /// # Errors
    /// [`Reason`]: a hash that the content does not give, or a member outside its grammar.
    pub fn check(&self) -> Result<Hash32, Reason> {
        let hash_of_payload = |(text, salt): &(&str, Salt)| hash::payload_hash(salt, text);
        self.check_against(&Computed {
            data: hash::data_hash(self.data),
            payload: self.payload.as_ref().map(hash_of_payload),
            own: hash::event_hash(self.header),
        })
    }

    /// [`check`](Self::check), with the hashes of its content at hand.
    pub(crate) fn check_against(&self, computed: &Computed) -> Result<Hash32, Reason> {
        self.check_header()?;
        expect_hash("dataHash", self.data_hash, computed.data)?;
        match computed.payload {
            Some(payload) => expect_hash("payloadHash", self.payload_hash, payload)?,
            None => drop(hash_of("payloadHash", self.payload_hash)?),
        }
        expect_hash("hash", self.hash, computed.own)?;
        Ok(computed.own)
    }

    /// That the header gives the hash.
    pub(crate) fn check_own_hash(&self) -> Result<Hash32, Reason> {
        let computed = hash::event_hash(self.header);
        expect_hash("hash", self.hash, computed)?;
        Ok(computed)
    }

    /// What [`check`](Self::check) leaves to `Chain::follow`: the grammar of names and times.
    pub(crate) fn check_names(&self) -> Result<(), Reason> {
        self.ledger.parse::<LedgerId>()?;
        self.actor.parse::<Actor>()?;
        self.stream.parse::<StreamId>()?;
        self.recorded_at.parse::<Timestamp>()?;
        hash_of("prev", self.prev)?;
        self.check_header()
    }

    fn check_header(&self) -> Result<(), Reason> {
        if !event::is_event_type(self.event_type) {
            return Err(Reason::EventType { found: self.event_type.to_owned() });
        }
        if self.schema == 0 || self.stream_version == 0 {
            return Err(Reason::ZeroVersion);
        }
        Ok(())
    }

    /// Whether only the commitment to the payload is left.
    pub fn is_erased(&self) -> bool {
        self.payload.is_none() && self.payload_hash != ZERO_HEX
    }

    /// Bytes of data and payload.
    pub fn content_bytes(&self) -> usize {
        self.data.len() + self.payload.map_or(0, |(payload, _)| payload.len())
    }
}

/// The hashes that a line's content gives.
pub(crate) struct Computed {
    data: Hash32,
    payload: Option<Hash32>,
    own: Hash32,
}

impl Computed {
    /// Those of each line, which takes a fraction of the time that one line after the other does.
    pub(crate) fn of_each(lines: &[Line<'_>]) -> impl Iterator<Item = Self> {
        let payloads = lines.iter().filter_map(|line| line.payload.as_ref());
        let payloads = payloads.map(|(payload, salt)| (salt, *payload));
        let mut payloads = hash::payload_hashes(payloads).into_iter();
        let data = hash::data_hashes(lines.iter().map(|line| line.data));
        let own = hash::event_hashes(lines.iter().map(|line| line.header));
        lines.iter().zip(data).zip(own).map(move |((line, data), own)| {
            let payload = line.payload.as_ref().and_then(|_| payloads.next());
            Self { data, payload, own }
        })
    }
}

/// An object within the format's size.
fn part<'a>(part: &'static str, scan: &mut Scanner<'a>) -> Result<&'a str, Reason> {
    let start = scan.at();
    scan.object()?;
    let bytes = scan.at() - start;
    if bytes > EVENT_PART_BYTES {
        return Err(Reason::PartTooLarge { part, bytes, limit: EVENT_PART_BYTES });
    }
    Ok(scan.since(start))
}

fn expect_hash(member: &'static str, stored: &HexHash, computed: Hash32) -> Result<(), Reason> {
    if *stored == computed.hex_digits() {
        Ok(())
    } else {
        Err(Reason::Hash { member, stored: hash_of(member, stored)?, computed })
    }
}

/// The hash that these digits spell.
///
/// # Errors
/// [`Reason::NotHex`], naming `member`.
pub fn hash_of(member: &'static str, digits: &HexHash) -> Result<Hash32, Reason> {
    if digits == ZERO_HEX {
        return Ok(Hash32::ZERO);
    }
    let hash = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
    hash.ok_or(Reason::NotHex { member })
}

fn salt(digits: &[u8; 32]) -> Option<Salt> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
