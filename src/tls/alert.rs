//! Alerts by number, and the alert record that can be sent before any key exists. Alerts of a running
//! session are not made here.

/// unexpected_message (RFC 8446 §6.2).
pub const UNEXPECTED_MESSAGE: u8 = 10;
/// record_overflow (RFC 8446 §6.2).
pub const RECORD_OVERFLOW: u8 = 22;
/// handshake_failure (RFC 8446 §6.2).
pub const HANDSHAKE_FAILURE: u8 = 40;
/// illegal_parameter (RFC 8446 §6.2).
pub const ILLEGAL_PARAMETER: u8 = 47;
/// decode_error (RFC 8446 §6.2).
pub const DECODE_ERROR: u8 = 50;
/// protocol_version (RFC 8446 §6.2).
pub const PROTOCOL_VERSION: u8 = 70;
/// unrecognized_name (RFC 6066 §3).
pub const UNRECOGNIZED_NAME: u8 = 112;
/// no_application_protocol (RFC 7301 §3.2).
pub const NO_APPLICATION_PROTOCOL: u8 = 120;

/// A whole record with one fatal alert, in the clear (RFC 8446 §5.1, §6): content type 21, the record
/// version that every TLS version accepts, two bytes of content.
#[must_use]
pub const fn plaintext_alert(description: u8) -> [u8; 7] {
    const CONTENT_TYPE_ALERT: u8 = 21;
    const FATAL: u8 = 2;
    [CONTENT_TYPE_ALERT, 3, 3, 0, 2, FATAL, description]
}

#[cfg(test)]
mod tests {
    use super::{UNRECOGNIZED_NAME, plaintext_alert};

    #[test]
    fn a_client_understands_the_alert() {
        let common = crate::tls::provider();
        let config = rustls::ClientConfig::builder_with_provider(common.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = rustls::pki_types::ServerName::try_from("a.example").unwrap();
        let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
        client.read_tls(&mut &plaintext_alert(UNRECOGNIZED_NAME)[..]).unwrap();
        let error = client.process_new_packets().unwrap_err();
        assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::UnrecognisedName));
    }
}
