//! The unfinished uploads of an S3 bucket: `ListMultipartUploads`, which the store's crate doesn't ask for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AmazonS3ConfigKey};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions, Signer};
use serde::Deserialize;

use super::cause::store_error;
use super::uploads::UploadLog;
use crate::error::{Error, ErrorKind, Result};

/// How long a signed request may be on its way.
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// A listing that failed by chance is asked for again, since there are many pages.
const ATTEMPTS_MAX: u32 = 4;
/// Before the second attempt; doubled from then on.
const PAUSE: Duration = Duration::from_millis(200);
/// So that a server that repeats itself doesn't keep us for ever.
const PAGES_MAX: usize = 100_000;

/// Asks with the store's own credentials and endpoint.
pub(super) struct S3Uploads {
    store: Arc<AmazonS3>,
    client: HttpClient,
}

/// Where a page begins: after this key, and of that key after this upload.
type Markers = (String, String);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_key_marker: String,
    #[serde(default)]
    next_upload_id_marker: String,
    #[serde(default, rename = "Upload")]
    uploads: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    key: String,
    upload_id: String,
    initiated: chrono::DateTime<chrono::Utc>,
}

impl S3Uploads {
    /// With the client's settings from the environment, as the store has them.
    pub(super) fn new(store: Arc<AmazonS3>) -> object_store::Result<Self> {
        let settings = std::env::vars_os().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            let key = name.starts_with("AWS_").then(|| name.to_ascii_lowercase().parse().ok()).flatten()?;
            match key {
                AmazonS3ConfigKey::Client(key) => Some((key, value)),
                _ => None,
            }
        });
        let options = settings.fold(ClientOptions::new(), |options, (key, value)| options.with_config(key, value));
        Ok(Self { store, client: ReqwestConnector::default().connect(&options)? })
    }

    async fn list_all(&self, prefix: String) -> Result<Vec<(String, String, SystemTime)>> {
        let mut found = Vec::new();
        let mut markers = None;
        for _ in 0..PAGES_MAX {
            let page = self.page(&prefix, markers.take()).await?;
            markers = page.take(&mut found)?;
            if markers.is_none() {
                return Ok(found);
            }
        }
        Err(Error::new(ErrorKind::Store, "listing uploads: the store's pages have no end"))
    }

    async fn page(&self, prefix: &str, markers: Option<Markers>) -> Result<Page> {
        let mut query = vec![("uploads", String::new()), ("prefix", prefix.to_owned())];
        if let Some((key, id)) = markers {
            query.push(("key-marker", key));
            query.push(("upload-id-marker", id));
        }
        let options = SignedUrlOptions::new().with_query(query);
        let mut pause = PAUSE;
        let mut attempt = 1;
        loop {
            match self.ask(&options).await {
                Err((_, true)) if attempt < ATTEMPTS_MAX => tokio::time::sleep(pause).await,
                answer => return answer.map_err(|(error, _)| error),
            }
            (attempt, pause) = (attempt + 1, pause * 2);
        }
    }

    /// One request; an error comes with whether it may go by.
    async fn ask(&self, options: &SignedUrlOptions) -> Result<Page, (Error, bool)> {
        let failed = |text: String, may_go_by: bool| {
            (Error::new(ErrorKind::Store, format!("listing uploads: {text}")), may_go_by)
        };
        let signed = self.store.signed_url_opts(Method::GET, &Path::ROOT, SIGNED_FOR, options).await;
        let url = signed.map_err(|e| (store_error("listing uploads of", &self.store, e), false))?;
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = url.as_str().parse().map_err(|_| failed("the bucket's URL is none".to_owned(), false))?;
        // The client's own errors don't have the URL, which is signed.
        let answer = self.client.execute(request).await.map_err(|e| failed(e.to_string(), true))?;
        let status = answer.status();
        let body = answer.into_body().bytes().await.map_err(|e| failed(e.to_string(), true))?;
        if !status.is_success() {
            let may_go_by = status.is_server_error() || status.as_u16() == 429;
            return Err(failed(format!("the store answers {status}{}", code(&body)), may_go_by));
        }
        parse(&body).map_err(|problem| failed(format!("the store's answer can't be read: {problem}"), false))
    }
}

impl Page {
    /// Adds its uploads, and says where the next page begins.
    fn take(self, found: &mut Vec<(String, String, SystemTime)>) -> Result<Option<Markers>> {
        found.extend(self.uploads.into_iter().map(|entry| (entry.key, entry.upload_id, entry.initiated.into())));
        match (self.is_truncated, self.next_key_marker) {
            (false, _) => Ok(None),
            (true, key) if key.is_empty() => {
                Err(Error::new(ErrorKind::Store, "listing uploads: the store doesn't say where its next page begins"))
            }
            (true, key) => Ok(Some((key, self.next_upload_id_marker))),
        }
    }
}

impl UploadLog for S3Uploads {
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(String, String, SystemTime)>>> {
        Box::pin(self.list_all(prefix.to_owned()))
    }

    fn abort(&self, key: &str, id: &str) -> BoxFuture<'_, Result<()>> {
        let (key, id) = (Path::parse(key), id.to_owned());
        Box::pin(async move {
            let key = key.map_err(|e| store_error("giving up an upload of", &self.store, e.into()))?;
            match self.store.abort_multipart(&key, &id).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                done => done.map_err(|e| store_error("giving up an upload of", &key, e)),
            }
        })
    }
}

fn parse(body: &[u8]) -> Result<Page, quick_xml::DeError> {
    quick_xml::de::from_reader(body)
}

/// The code of an error's body; the rest may hold what isn't to be shown.
fn code(body: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Refusal {
        code: String,
    }
    quick_xml::de::from_reader::<_, Refusal>(body)
        .map_or_else(|_| String::new(), |refusal| format!(": {}", refusal.code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let page = parse(
            br#"<?xml version="1.0" encoding="UTF-8"?>
            <ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Bucket>b</Bucket><KeyMarker/><UploadIdMarker></UploadIdMarker>
              <NextKeyMarker>a &amp; b</NextKeyMarker><NextUploadIdMarker>2</NextUploadIdMarker>
              <MaxUploads>2</MaxUploads><IsTruncated>true</IsTruncated>
              <Upload><Key>a &amp; b</Key><UploadId>1</UploadId>
                <Initiator><ID>i</ID><DisplayName>n</DisplayName></Initiator>
                <StorageClass>STANDARD</StorageClass><Initiated>2010-11-10T20:48:33.000Z</Initiated></Upload>
              <Upload><Key>c</Key><UploadId>2</UploadId><Initiated>2010-11-10T20:48:34Z</Initiated></Upload>
            </ListMultipartUploadsResult>"#,
        )
        .unwrap();
        assert!(page.is_truncated);
        assert_eq!((page.next_key_marker.as_str(), page.next_upload_id_marker.as_str()), ("a & b", "2"));
        let keys: Vec<_> = page.uploads.iter().map(|u| (u.key.as_str(), u.upload_id.as_str())).collect();
        assert_eq!(keys, [("a & b", "1"), ("c", "2")]);
        assert_eq!(page.uploads[0].initiated.timestamp(), 1_289_422_113);
    }

    #[test]
    fn pages_lead_to_the_next_until_the_last() {
        let page = |rest: &str| {
            let upload =
                "<Upload><Key>k</Key><UploadId>u</UploadId><Initiated>2010-11-10T20:48:34Z</Initiated></Upload>";
            parse(format!("<R>{upload}{rest}</R>").as_bytes()).unwrap()
        };
        let mut found = Vec::new();
        let markers = "<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>";
        let next = page(&format!("<IsTruncated>true</IsTruncated>{markers}")).take(&mut found).unwrap();
        assert_eq!(next, Some(("k".to_owned(), "u".to_owned())));
        // Some servers give markers on the last page, too.
        assert_eq!(page(&format!("<IsTruncated>false</IsTruncated>{markers}")).take(&mut found).unwrap(), None);
        assert_eq!(page("").take(&mut found).unwrap(), None);
        assert_eq!(found.len(), 3);
        let error = page("<IsTruncated>true</IsTruncated>").take(&mut found).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
    }

    #[test]
    fn an_empty_page_is_read_and_an_error_has_a_code() {
        let page = parse(b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>");
        assert!(page.unwrap().uploads.is_empty());
        assert!(parse(b"<html>").is_err());
        assert_eq!(code(b"<Error><Code>AccessDenied</Code><Message>m</Message></Error>"), ": AccessDenied");
        assert_eq!(code(b"no xml"), "");
    }
}
