//! TLS for the sandbox: a CA and a certificate made at each start and worthless afterwards.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// The acceptor, and the CA file for clients. The file is deleted on drop.
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    folder: TempDir,
}

impl Tls {
    /// Makes a certificate for `127.0.0.1` and `localhost`, valid for a year from this moment of real time.
    ///
    /// The CA is separate because strict clients refuse a self-signed server certificate.
    pub(super) fn make(now: Timestamp) -> io::Result<Tls> {
        let made = authority_and_acceptor(now).map_err(io::Error::other)?;
        let (authority, acceptor) = made;
        let folder = tempfile::Builder::new().prefix("dbtrigger-sandbox-").tempdir()?;
        let tls = Tls { acceptor, folder };
        std::fs::write(tls.file(), authority)?;
        Ok(tls)
    }

    /// Returns the path of the CA certificate, in PEM.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn authority_and_acceptor(now: Timestamp) -> Result<(String, TlsAcceptor), Failure> {
    let mut params = params(now, &[], "dbtrigger sandbox authority")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let mut params = self::params(now, &["127.0.0.1".to_owned(), "localhost".to_owned()], "dbtrigger sandbox")?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Python 3.13 and newer require it.
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;

    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone(), authority.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((authority.pem(), TlsAcceptor::from(Arc::new(config))))
}

fn params(now: Timestamp, names: &[String], name: &str) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(names)?;
    let today = now.to_zoned(TimeZone::UTC).date();
    let moment = |date: jiff::civil::Date| -> Result<_, Failure> {
        Ok(rcgen::date_time_ymd(date.year().into(), u8::try_from(date.month())?, u8::try_from(date.day())?))
    };
    // Some clients reject certificates valid for more than 825 days.
    params.not_before = moment(today.checked_sub(1.day())?)?;
    params.not_after = moment(today.checked_add(1.year())?)?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
