//! What a request asks of a file that is there: only if it is another one, only a part of it. Pure.

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, StatusCode};
use twostage_model::date;

/// Whether there can be anything of what is read here.
pub(crate) fn are_in(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| *name == header::RANGE || name.as_str().starts_with("if-"))
}

/// Whether a condition of the request ends it: 412 where the file is not the one that is asked for, 304 where the
/// client's copy is good. The order is that of RFC 9110 section 13.2.2: tags beat dates. (For methods that are
/// answered here: GET and HEAD.)
pub(crate) fn precondition(headers: &HeaderMap, etag: &str, modified: Option<i64>) -> Option<StatusCode> {
    let expected = if headers.contains_key(header::IF_MATCH) {
        names(headers, &header::IF_MATCH, |tag| tag == etag)
    } else {
        // What has no date, or is asked for with none that can be read, is not asked for by date.
        !matches!((modified, date_of(headers, &header::IF_UNMODIFIED_SINCE)), (Some(modified), Some(since)) if modified > since)
    };
    if !expected {
        return Some(StatusCode::PRECONDITION_FAILED);
    }
    let known = if headers.contains_key(header::IF_NONE_MATCH) {
        names(headers, &header::IF_NONE_MATCH, |tag| tag.strip_prefix("W/").unwrap_or(tag) == etag)
    } else {
        matches!((modified, date_of(headers, &header::IF_MODIFIED_SINCE)), (Some(modified), Some(since)) if modified <= since)
    };
    known.then_some(StatusCode::NOT_MODIFIED)
}

/// Whether a header names a tag, or all by `*`.
fn names(headers: &HeaderMap, name: &HeaderName, is_it: impl Fn(&str) -> bool) -> bool {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|value| value.trim() == "*" || tags(value).any(&is_it))
}

/// The entity tags of a list, with their quotes. A tag may have a comma in it; what follows something that is no tag is
/// not read.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let open = if rest.starts_with("W/\"") { 3 } else { 1 };
        let length = rest.get(open..)?.find('"').filter(|_| open == 3 || rest.starts_with('"'))? + open + 1;
        let (tag, after) = rest.split_at(length);
        rest = after;
        Some(tag)
    })
}

/// A date that stands alone and can be read.
fn date_of(headers: &HeaderMap, name: &HeaderName) -> Option<i64> {
    date::parse_http(alone(headers, name)?)
}

/// The value of a header that is there once.
fn alone<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().map(str::trim),
        _ => None,
    }
}

/// What part of a body is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Range {
    Whole,
    /// First and last byte, both included.
    Part(u64, u64),
    /// Nothing of it is within the body.
    Beyond,
}

/// Reads `Range`. Several ranges, another unit, or what cannot be read give the whole, which RFC
/// 9110 section 14.2 allows; so does an `If-Range` that names another state of the file.
pub(crate) fn range(method: &Method, headers: &HeaderMap, etag: &str, modified: Option<i64>, length: u64) -> Range {
    let list =
        alone(headers, &header::RANGE).and_then(|range| range.split_once('=')).filter(|(unit, _)| unit.eq_ignore_ascii_case("bytes"));
    let Some((_, list)) = list.filter(|_| method == Method::GET) else { return Range::Whole };
    if headers.contains_key(header::IF_RANGE) {
        let same = alone(headers, &header::IF_RANGE)
            .is_some_and(|sent| sent == etag || (modified.is_some() && date::parse_http(sent) == modified));
        if !same {
            return Range::Whole;
        }
    }
    let mut ranges = list.split(',').map(str::trim).filter(|range| !range.is_empty());
    match (ranges.next(), ranges.next()) {
        (Some(range), None) => one(range, length),
        _ => Range::Whole,
    }
}

fn one(range: &str, length: u64) -> Range {
    // (A number that is larger than any file is larger than this one.)
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let Some((first, last)) = range.split_once('-') else { return Range::Whole };
    match (first, last) {
        ("", last) => match number(last) {
            Some(0) => Range::Beyond,
            Some(_) if length == 0 => Range::Beyond,
            Some(n) => Range::Part(length.saturating_sub(n), length - 1),
            None => Range::Whole,
        },
        (first, last) => match (number(first), number(last), last) {
            (Some(first), Some(last), _) if first > last => Range::Whole,
            (Some(first), _, "") | (Some(first), Some(_), _) if first >= length => Range::Beyond,
            (Some(first), None, "") => Range::Part(first, length - 1),
            (Some(first), Some(last), _) => Range::Part(first, last.min(length - 1)),
            _ => Range::Whole,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const TAG: &str = "\"t\"";

    /// Seconds of a date that all of these are about.
    const DATE: (&str, i64) = ("Tue, 14 Nov 2023 22:13:20 GMT", 1_700_000_000);

    fn headers(all: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(name, HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static("")));
        }
        headers
    }

    #[test]
    fn conditions_are_judged_in_the_order_of_the_rfc() {
        use header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
        let (date, modified) = DATE;
        let earlier = "Tue, 14 Nov 2023 22:13:19 GMT";
        for (all, status) in [
            (vec![], None),
            (vec![(IF_MATCH, TAG)], None),
            (vec![(IF_MATCH, "*")], None),
            (vec![(IF_MATCH, "\"a\", \"t\"")], None),
            (vec![(IF_MATCH, "\"a\""), (IF_MATCH, TAG)], None),
            (vec![(IF_MATCH, "\"a\"")], Some(412)),
            // Only strong tags match here, and a comma in a tag ends none.
            (vec![(IF_MATCH, "W/\"t\"")], Some(412)),
            (vec![(IF_MATCH, "\"a,\"t\",b\"")], Some(412)),
            (vec![(IF_MATCH, "t")], Some(412)),
            (vec![(IF_MATCH, "")], Some(412)),
            (vec![(IF_UNMODIFIED_SINCE, date)], None),
            (vec![(IF_UNMODIFIED_SINCE, earlier)], Some(412)),
            (vec![(IF_UNMODIFIED_SINCE, "yesterday")], None),
            (vec![(IF_UNMODIFIED_SINCE, earlier), (IF_UNMODIFIED_SINCE, earlier)], None),
            (vec![(IF_MATCH, TAG), (IF_UNMODIFIED_SINCE, earlier)], None),
            (vec![(IF_NONE_MATCH, TAG)], Some(304)),
            (vec![(IF_NONE_MATCH, "W/\"t\"")], Some(304)),
            (vec![(IF_NONE_MATCH, "*")], Some(304)),
            (vec![(IF_NONE_MATCH, "\"a\""), (IF_MODIFIED_SINCE, date)], None),
            (vec![(IF_MODIFIED_SINCE, date)], Some(304)),
            (vec![(IF_MODIFIED_SINCE, earlier)], None),
            (vec![(IF_MATCH, TAG), (IF_NONE_MATCH, TAG)], Some(304)),
            (vec![(IF_MATCH, "\"a\""), (IF_NONE_MATCH, TAG)], Some(412)),
            (vec![(IF_UNMODIFIED_SINCE, earlier), (IF_NONE_MATCH, TAG)], Some(412)),
        ] {
            let found = precondition(&headers(&all), TAG, Some(modified)).map(|status| status.as_u16());
            assert_eq!(found, status, "{all:?}");
        }
        for by_date in [IF_UNMODIFIED_SINCE, IF_MODIFIED_SINCE] {
            assert_eq!(precondition(&headers(&[(by_date, earlier)]), TAG, None), None, "what has no date");
        }
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let ask = |text: &str, length| range(&Method::GET, &headers(&[(header::RANGE, text)]), TAG, None, length);
        assert_eq!(ask("bytes=0-0", 10), Range::Part(0, 0));
        assert_eq!(ask("bytes=5-", 10), Range::Part(5, 9));
        assert_eq!(ask("bytes=-3", 10), Range::Part(7, 9));
        for all in ["bytes=0-99", "Bytes=0-9", "bytes=-99", "bytes=0-99999999999999999999", "bytes=-99999999999999999999", "bytes=, 0-9 ,"]
        {
            assert_eq!(ask(all, 10), Range::Part(0, 9), "{all}");
        }
        for beyond in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(ask(beyond, 10), Range::Beyond, "{beyond}");
        }
        let many = format!("bytes={}", "0-,".repeat(1000));
        for whole in [
            "bytes=5-3",
            "bytes=12-11",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=",
            "bytes=-",
            "bytes=+1-2",
            "bytes=0 - 1",
            "bytes",
            &many,
        ] {
            assert_eq!(ask(whole, 10), Range::Whole, "{whole}");
        }
        assert_eq!(ask("bytes=0-", 0), Range::Beyond);
        let twice = headers(&[(header::RANGE, "bytes=0-1"), (header::RANGE, "bytes=0-1")]);
        assert_eq!(range(&Method::GET, &twice, TAG, None, 10), Range::Whole);
        assert_eq!(range(&Method::HEAD, &headers(&[(header::RANGE, "bytes=0-1")]), TAG, None, 10), Range::Whole);
    }

    #[test]
    fn a_part_is_only_of_the_file_that_the_client_has_the_rest_of() {
        let (date, modified) = DATE;
        let ask = |condition: &str, modified| {
            range(&Method::GET, &headers(&[(header::RANGE, "bytes=0-1"), (header::IF_RANGE, condition)]), TAG, modified, 10)
        };
        assert_eq!((ask(TAG, None), ask(date, Some(modified))), (Range::Part(0, 1), Range::Part(0, 1)));
        for other in ["\"u\"", "W/\"t\"", "*", "", "Tue, 14 Nov 2023 22:13:21 GMT"] {
            assert_eq!(ask(other, Some(modified)), Range::Whole, "{other}");
        }
        assert_eq!(ask(date, None), Range::Whole);
    }
}
