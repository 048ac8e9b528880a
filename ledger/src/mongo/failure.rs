//! What the driver's errors mean for a commit that was sent.
//!
//! Three answers are possible (see [`AppendFailure`]), and only two of them claim to know
//! something. Whatever is not listed here as known is *unknown*: the writer then reads back, which
//! costs time and never truth.

use mongodb::error::{
    CommandError, Error, ErrorKind, InsertManyError, NO_WRITES_PERFORMED, SYSTEM_OVERLOADED_ERROR,
    WriteFailure,
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
    20,    // IllegalOperation: a standalone server knows no retryable writes
    59,    // CommandNotFound
    72,    // InvalidOptions
    121,   // DocumentValidationFailure
    10334, // BSONObjectTooLarge
];

/// How far an ordered insert of one message came that ended with `error`.
///
/// The driver sends an insert a second time when the first sending failed; of two errors it
/// returns the one after which something may have been written. An error that says "not sent"
/// therefore holds for both sendings.
pub(super) fn classify(error: &Error) -> AppendError {
    let nothing_landed = |cause| AppendError { landed: 0, cause };
    let unavailable = || nothing_landed(AppendFailure::Unavailable(reason(error)));
    let unknown = || nothing_landed(AppendFailure::Unknown(reason(error)));
    match &*error.kind {
        ErrorKind::InsertMany(failure) => classify_insert(error, failure),

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
        ErrorKind::Write(WriteFailure::WriteConcernError(_)) | ErrorKind::BulkWrite(_) => unknown(),

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

fn classify_insert(error: &Error, failure: &InsertManyError) -> AppendError {
    if failure.write_concern_error.is_some() {
        // Written, but not known to be durable, and that holds for every document of the message.
        return AppendError { landed: 0, cause: AppendFailure::Unknown(reason(error)) };
    }
    match failure.write_errors.as_ref().and_then(|errors| errors.first()) {
        // Ordered: those before it are durable, it and those after it were not written.
        Some(refused) => AppendError {
            landed: refused.index,
            cause: refusal(refused.code, refused.message.clone()),
        },
        None => AppendError { landed: 0, cause: AppendFailure::Unknown(reason(error)) },
    }
}

/// Why one document was not written.
fn refusal(code: i32, message: String) -> AppendFailure {
    if DUPLICATE_KEY.contains(&code) {
        AppendFailure::Conflict
    } else if REFUSED.contains(&code) {
        AppendFailure::Unavailable(format!("code {code}: {message}"))
    } else {
        AppendFailure::Unknown(format!("code {code}: {message}"))
    }
}

/// Every failure to read may pass.
pub(super) fn unavailable(error: &Error) -> LedgerError {
    LedgerError::Unavailable(reason(error))
}

/// The driver's own text for an error holds the server's whole answer in hex.
pub(super) fn reason(error: &Error) -> String {
    match &*error.kind {
        ErrorKind::InsertMany(failure) => {
            let writes = failure.write_errors.iter().flatten().map(|e| (e.code, &e.message));
            let concern = failure.write_concern_error.iter().map(|e| (e.code, &e.message));
            concern
                .chain(writes)
                .next()
                .map_or_else(String::new, |(code, message)| format!("code {code}: {message}"))
        }
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::io;

    use mongodb::bson::{self, Document, doc};

    use super::*;

    /// Conflict, unavailable or unknown, and how many landed.
    fn classified(kind: ErrorKind) -> (usize, &'static str) {
        let AppendError { landed, cause } = classify(&Error::from(kind));
        let cause = match cause {
            AppendFailure::Conflict => "conflict",
            AppendFailure::Unavailable(_) => "unavailable",
            AppendFailure::Unknown(_) => "unknown",
        };
        (landed, cause)
    }

    fn insert(answer: Document) -> ErrorKind {
        ErrorKind::InsertMany(bson::from_document(answer).unwrap())
    }

    fn command(code: i32) -> ErrorKind {
        ErrorKind::Command(bson::from_document(doc! { "code": code, "errmsg": "x" }).unwrap())
    }

    #[test]
    fn an_ordered_insert_lands_up_to_the_document_that_was_refused() {
        let refused = |index: i32, code: i32| doc! { "index": index, "code": code, "errmsg": "x" };
        let concern = doc! { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "x" };
        for (answer, expected) in [
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
            assert_eq!(classified(insert(answer.clone())), expected, "{answer}");
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
