//! What the driver's errors mean for a commit that was sent.
//!
//! Three answers are possible (see [`AppendFailure`]), and only two of them claim to know
//! something. Whatever is not listed here as known is *unknown*: the writer then reads back, which
//! costs time and never truth.

use mongodb::{
    bson::{Bson, Document},
    error::{
        CommandError, Error, ErrorKind, NO_WRITES_PERFORMED, SYSTEM_OVERLOADED_ERROR, WriteFailure,
    },
};

use crate::port::{AppendError, AppendFailure, LedgerError};

/// Duplicate key: today's code and two of old servers (`src/mongo/base/error_codes.yml`).
const DUPLICATE_KEY: [i32; 3] = [11000, 11001, 12582];

/// Codes with which a server refuses before it writes anything (the same source).
const REFUSED: [i32; 10] = [
    2,     // BadValue
    9,     // FailedToParse
    13,    // Unauthorized
    14,    // TypeMismatch
    18,    // AuthenticationFailed
    20,    // IllegalOperation
    59,    // CommandNotFound
    72,    // InvalidOptions
    121,   // DocumentValidationFailure
    10334, // BSONObjectTooLarge
];

/// How far an ordered insert came that ended with `error`.
pub(super) fn classify(error: &Error) -> AppendError {
    let nothing_landed = |cause| AppendError { landed: 0, cause };
    let unavailable = || nothing_landed(AppendFailure::Unavailable(reason(error)));
    let unknown = || nothing_landed(AppendFailure::Unknown(reason(error)));
    match &*error.kind {
        // Never sent: no server, no connection, or no message could be made.
        ErrorKind::ServerSelection { .. }
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::Authentication { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::InvalidTlsConfig { .. }
        | ErrorKind::IncompatibleServer { .. }
        | ErrorKind::InvalidArgument { .. }
        | ErrorKind::BsonSerialization(_)
        | ErrorKind::Shutdown => unavailable(),
        // So the driver labels what befalls a connection while it is made, and nothing else.
        ErrorKind::Io(_) if error.contains_label(SYSTEM_OVERLOADED_ERROR) => unavailable(),

        // Sent and refused.
        ErrorKind::Command(_) if error.contains_label(NO_WRITES_PERFORMED) => unavailable(),
        ErrorKind::Command(CommandError { code, .. }) if REFUSED.contains(code) => unavailable(),
        // A primary that stepped down or was shut down (10107, 13435, 10058, 189, 91, 11600,
        // 11602), a time limit (50, 262), a network error behind a router (6, 7, 89, 9001): it may
        // have written some of the documents before.
        ErrorKind::Command(_) => unknown(),
        // Sent, and then the connection failed.
        ErrorKind::Io(_) => unknown(),

        // Other kinds of write, which are not used here, with the same meaning.
        ErrorKind::Write(WriteFailure::WriteError(e)) => {
            nothing_landed(refusal(e.code, e.message.clone()))
        }
        ErrorKind::Write(WriteFailure::WriteConcernError(_))
        | ErrorKind::InsertMany(_)
        | ErrorKind::BulkWrite(_) => unknown(),

        // The answer could not be read, or the driver is at odds with itself.
        ErrorKind::InvalidResponse { .. }
        | ErrorKind::BsonDeserialization(_)
        | ErrorKind::Internal { .. }
        | ErrorKind::SessionsNotSupported
        | ErrorKind::Transaction { .. }
        | ErrorKind::MissingResumeToken
        | ErrorKind::GridFs(_)
        | ErrorKind::Custom(_) => unknown(),
        // The enum is open: a kind that is new to this build is not known to be harmless.
        _ => unknown(),
    }
}

/// How far an ordered insert of so many documents came by the server's `answer`, which says that the
/// command as such was carried out.
pub(super) fn of_answer(answer: &Document, sent: usize) -> Result<(), AppendError> {
    let unknown =
        |reason: String| Err(AppendError { landed: 0, cause: AppendFailure::Unknown(reason) });
    if let Some(concern) = answer.get("writeConcernError") {
        // Written, but not known to be durable, and that holds for every document of the command.
        return unknown(said(concern));
    }
    // Ordered: the documents before the first error are durable, it and those after it were not written.
    let refused = match answer.get("writeErrors") {
        None => None,
        Some(Bson::Array(errors)) => errors.first(),
        Some(other) => return unknown(said(other)),
    };
    match refused {
        None if answer.get("n").and_then(number) == i64::try_from(sent).ok() => Ok(()),
        None => unknown(format!("it says of {sent} documents: {answer}")),
        Some(refused) => {
            let error = refused.as_document();
            let member = |name| error.and_then(|error| error.get(name)).and_then(number);
            let (landed, code) = (member("index"), member("code"));
            match (landed.and_then(|n| n.try_into().ok()), code.and_then(|n| n.try_into().ok())) {
                (Some(landed), Some(code)) if landed < sent => {
                    Err(AppendError { landed, cause: refusal(code, said(refused)) })
                }
                _ => unknown(said(refused)),
            }
        }
    }
}

fn number(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(n) => Some((*n).into()),
        Bson::Int64(n) => Some(*n),
        _ => None,
    }
}

/// What an error within an answer says.
fn said(error: &Bson) -> String {
    let member = |name| error.as_document().and_then(|error| error.get(name));
    match (member("code").and_then(number), member("errmsg").and_then(Bson::as_str)) {
        (Some(code), Some(message)) => format!("code {code}: {message}"),
        _ => error.to_string(),
    }
}

/// Why one document was not written.
fn refusal(code: i32, message: String) -> AppendFailure {
    if DUPLICATE_KEY.contains(&code) {
        AppendFailure::Conflict
    } else if REFUSED.contains(&code) {
        AppendFailure::Unavailable(message)
    } else {
        AppendFailure::Unknown(message)
    }
}

/// Every failure to read may pass.
pub(super) fn unavailable(error: &Error) -> LedgerError {
    LedgerError::Unavailable(reason(error))
}

/// What the server, or the driver, says.
pub(super) fn reason(error: &Error) -> String {
    error.kind.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::io;

    use mongodb::bson::{self, doc};

    use super::*;

    /// Conflict, unavailable or unknown, and how many landed.
    fn classified(kind: ErrorKind) -> (usize, &'static str) {
        told(classify(&Error::from(kind)))
    }

    fn told(AppendError { landed, cause }: AppendError) -> (usize, &'static str) {
        let cause = match cause {
            AppendFailure::Conflict => "conflict",
            AppendFailure::Unavailable(_) => "unavailable",
            AppendFailure::Unknown(_) => "unknown",
        };
        (landed, cause)
    }

    fn command(code: i32) -> ErrorKind {
        ErrorKind::Command(bson::from_document(doc! { "code": code, "errmsg": "x" }).unwrap())
    }

    #[test]
    fn an_ordered_insert_lands_up_to_the_document_that_was_refused() {
        let refused = |index: i32, code: i32| doc! { "index": index, "code": code, "errmsg": "x" };
        let concern = doc! { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "x" };
        assert!(of_answer(&doc! { "n": 5, "ok": 1.0 }, 5).is_ok());
        for (answer, expected) in [
            (doc! { "n": 4, "ok": 1.0 }, (0, "unknown")),
            (doc! { "writeErrors": [refused(5, 11000)] }, (0, "unknown")),
            (doc! { "writeErrors": [refused(-1, 11000)] }, (0, "unknown")),
            (doc! { "writeErrors": [{ "code": 11000 }] }, (0, "unknown")),
            (doc! { "writeErrors": "?" }, (0, "unknown")),
            (doc! { "writeErrors": [refused(3, 11000)] }, (3, "conflict")),
            (doc! { "writeErrors": [refused(0, 11000)] }, (0, "conflict")),
            (doc! { "writeErrors": [refused(2, 121)] }, (2, "unavailable")),
            (doc! { "writeErrors": [refused(2, 13)] }, (2, "unavailable")),
            (doc! { "writeErrors": [refused(2, 10107)] }, (2, "unknown")),
            (doc! { "writeErrors": [refused(2, 6)] }, (2, "unknown")),
            (doc! { "writeConcernError": concern.clone() }, (0, "unknown")),
            (
                doc! { "writeErrors": [refused(3, 11000)], "writeConcernError": concern },
                (0, "unknown"),
            ),
            (doc! {}, (0, "unknown")),
        ] {
            assert_eq!(told(of_answer(&answer, 5).unwrap_err()), expected, "{answer}");
        }
    }

    #[test]
    fn a_command_that_failed_may_have_written_unless_it_was_refused() {
        for code in [13, 18, 20, 121] {
            assert_eq!(classified(command(code)), (0, "unavailable"), "{code}");
        }
        // The last has no meaning that this build knows.
        for code in [10107, 13435, 10058, 189, 91, 11600, 11602, 50, 262, 6, 7, 89, 9001, 987_654] {
            assert_eq!(classified(command(code)), (0, "unknown"), "{code}");
        }
    }

    #[test]
    fn a_connection_that_failed_leaves_it_open() {
        for kind in [io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof] {
            assert_eq!(classified(kind.into()), (0, "unknown"), "{kind}");
        }
        assert_eq!(classified(ErrorKind::Shutdown), (0, "unavailable"));
    }
}
