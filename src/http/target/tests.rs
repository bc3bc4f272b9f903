//! Tests of targets and of the routing view of paths.

use super::{Form, TargetError, fuzz, normalise_path, parse};
use crate::http::authority::AuthorityError;
use crate::http::method::Method;

fn path(path: &str) -> Result<String, TargetError> {
    let mut out = b"old".to_vec();
    normalise_path(path.as_bytes(), &mut out)?;
    fuzz(path.as_bytes());
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn each_form_has_its_parts_rfc_9112_3_2() {
    let text = b"/a/b?c=/?d";
    let target = parse(text, Method::Get).unwrap();
    assert_eq!((target.form, target.path.of(text)), (Form::Origin, &b"/a/b"[..]));
    assert_eq!(target.query.unwrap().of(text), b"c=/?d");
    assert_eq!(target.authority, None);

    let text = b"HTTPS://x.y:8443?";
    let target = parse(text, Method::Get).unwrap();
    assert_eq!((target.form, target.path.of(text)), (Form::Absolute, &b""[..]));
    assert_eq!(target.authority.unwrap().of(text), b"x.y:8443");
    assert!(target.query.unwrap().is_empty() && target.scheme_https);

    let target = parse(b"http://x/y", Method::Post).unwrap();
    assert_eq!((target.path.of(b"http://x/y"), target.scheme_https), (&b"/y"[..], false));

    assert_eq!(parse(b"*", Method::Options).unwrap().form, Form::Asterisk);
    assert_eq!(parse(b"x:1", Method::Connect).unwrap().form, Form::Authority);
}

#[test]
fn what_is_no_target_is_refused() {
    use TargetError::{
        BadAuthority, BadForm, BadPercentEncoding, Empty, EncodedNul, ForbiddenByte, Fragment, UnknownScheme,
    };
    let cases: [(&[u8], Method, TargetError); 19] = [
        (b"", Method::Get, Empty),
        (b"*", Method::Get, BadForm),
        (b"**", Method::Options, BadForm),
        (b"a", Method::Get, BadForm),
        (b"x:1", Method::Get, BadForm),
        (b"/", Method::Connect, BadAuthority(AuthorityError::ForbiddenByte)),
        (b"x", Method::Connect, BadForm),
        (b"http:/x", Method::Get, BadForm),
        (b"ftp://x/", Method::Get, UnknownScheme),
        (b"http:///", Method::Get, BadAuthority(AuthorityError::EmptyHost)),
        (b"http://u@x/", Method::Get, BadAuthority(AuthorityError::ForbiddenByte)),
        (b"http://a,b/", Method::Get, BadAuthority(AuthorityError::ForbiddenByte)),
        (b"/a#b", Method::Get, Fragment),
        (b"/%", Method::Get, BadPercentEncoding),
        (b"/%4", Method::Get, BadPercentEncoding),
        (b"/%g0", Method::Get, BadPercentEncoding),
        (b"/?%00", Method::Get, EncodedNul),
        (b"/a b", Method::Get, ForbiddenByte),
        (b"/\xc3\xa9", Method::Get, ForbiddenByte),
    ];
    for (target, method, error) in cases {
        assert_eq!(parse(target, method), Err(error), "{}", target.escape_ascii());
    }
    for byte in (0..=0x20).chain(0x7f..=0xff) {
        assert_eq!(parse(&[b'/', byte], Method::Get), Err(ForbiddenByte));
    }
}

#[test]
fn dot_segments_go_rfc_3986_5_2_4() {
    for (from, to) in [
        ("", "/"),
        ("/", "/"),
        ("/a/b/c/./../../g", "/a/g"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/./a", "/a"),
        ("/a//b", "/a//b"),
        ("//", "//"),
        ("/a//../b", "/a/b"),
        ("/...", "/..."),
        ("/..a/.b", "/..a/.b"),
        ("/a/%2e%2E/b", "/b"),
        ("/%2e/b", "/b"),
        ("/a/.%2e", "/"),
    ] {
        assert_eq!(path(from).as_deref(), Ok(to), "{from}");
    }
}

#[test]
fn only_unreserved_characters_are_decoded_rfc_3986_6_2_2() {
    for (from, to) in [
        ("/%61%7e%5f%2D", "/a~_-"),
        ("/a%2fb", "/a%2Fb"),
        ("/%25%3f%23", "/%25%3F%23"),
        ("/%252e%252e/", "/%252e%252e/"),
        ("/%c3%a9", "/%C3%A9"),
        ("/a;b=c", "/a;b=c"),
        ("/v1..2;x", "/v1..2;x"),
    ] {
        assert_eq!(path(from).as_deref(), Ok(to), "{from}");
    }
}

#[test]
fn paths_that_servers_read_differently_are_refused() {
    use TargetError::{Backslash, BadForm, EscapesRoot, HiddenDotSegment};
    for (from, error) in [
        ("/..", EscapesRoot),
        ("/a/../..", EscapesRoot),
        ("/%2e%2e/x", EscapesRoot),
        ("/a/..;/b", HiddenDotSegment),
        ("/a/..;x=y", HiddenDotSegment),
        ("/.;/b", HiddenDotSegment),
        ("/a/%2e%2e;/b", HiddenDotSegment),
        ("/a/..%2fb", HiddenDotSegment),
        ("/a/x%2f..", HiddenDotSegment),
        ("/a/x%2f%2e%2e%2Fy", HiddenDotSegment),
        ("/a/..%5Cb", HiddenDotSegment),
        ("/a\\..\\b", Backslash),
        ("a", BadForm),
    ] {
        assert_eq!(path(from), Err(error), "{from}");
    }
}
