//! An issuer of tokens inside the test process: its keys, and the server that publishes them, which
//! can be made to answer anything.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keepsake_tests::token::{claims, jws};
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use serde_json::{Value, json};

/// The `iss` of every token made here.
pub const ISSUER: &str = "https://id.example.com";

/// The key of RFC 7515, appendix A.2.
const RFC_7515_A_2: [(&str, &str); 8] = [
    (
        "n",
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    ),
    ("e", "AQAB"),
    (
        "d",
        "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
    ),
    (
        "p",
        "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
    ),
    (
        "q",
        "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
    ),
    (
        "dp",
        "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0",
    ),
    (
        "dq",
        "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU",
    ),
    (
        "qi",
        "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U",
    ),
];

/// A key pair that signs tokens.
pub enum Signer {
    /// RS256.
    Rsa(RsaKeyPair),
    /// ES256.
    Curve(EcdsaKeyPair),
    /// For EdDSA.
    Edwards(Ed25519KeyPair),
}

impl Signer {
    /// The one RSA key.
    pub fn rsa() -> Result<Self> {
        let part = |name| -> Result<Vec<u8>> {
            let text = RFC_7515_A_2.iter().find(|(known, _)| *known == name);
            Ok(URL_SAFE_NO_PAD.decode(text.context("no such member")?.1)?)
        };
        let components = rsa::KeyPairComponents {
            public_key: rsa::PublicKeyComponents {
                n: part("n")?,
                e: part("e")?,
            },
            d: part("d")?,
            p: part("p")?,
            q: part("q")?,
            dP: part("dp")?,
            dQ: part("dq")?,
            qInv: part("qi")?,
        };
        let pair = RsaKeyPair::from_components(&components);
        Ok(Self::Rsa(pair.map_err(|error| anyhow!("{error}"))?))
    }

    /// A new key on P-256.
    pub fn curve() -> Result<Self> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random);
        let made = made.map_err(|error| anyhow!("{error}"))?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random);
        Ok(Self::Curve(pair.map_err(|error| anyhow!("{error}"))?))
    }

    /// A new key for EdDSA (RFC 8037).
    pub fn edwards() -> Result<Self> {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let made = made.map_err(|error| anyhow!("{error}"))?;
        let pair = Ed25519KeyPair::from_pkcs8(made.as_ref());
        Ok(Self::Edwards(pair.map_err(|error| anyhow!("{error}"))?))
    }

    /// Its `alg`.
    pub const fn alg(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Curve(_) => "ES256",
            Self::Edwards(_) => "EdDSA",
        }
    }

    /// The public half as a JWK.
    pub fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(_) => json!({
                "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
                "n": RFC_7515_A_2[0].1, "e": RFC_7515_A_2[1].1,
            }),
            Self::Curve(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at(32);
                json!({
                    "kty": "EC", "crv": "P-256", "kid": kid,
                    "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
                })
            }
            Self::Edwards(pair) => json!({
                "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": kid,
                "x": URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()),
            }),
        }
    }

    /// The RSA key as a JWK with its private half, which nobody should publish.
    pub fn private_jwk(kid: &str) -> Value {
        let mut jwk = json!({ "kty": "RSA", "kid": kid });
        for (name, value) in RFC_7515_A_2 {
            jwk[name] = value.into();
        }
        jwk
    }

    /// An ordinary token of a user of `tenant`.
    pub fn token(&self, kid: &str, tenant: &str) -> Result<String> {
        let mut claims = claims(tenant, "ada");
        claims["iss"] = ISSUER.into();
        self.token_of(&json!({ "alg": self.alg(), "kid": kid }), &claims)
    }

    /// A token with any header and claims.
    pub fn token_of(&self, header: &Value, claims: &Value) -> Result<String> {
        jws(header, claims, |signed| self.sign(signed))
    }

    fn sign(&self, signed: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, signed, &mut signature)
                    .map_err(|error| anyhow!("{error}"))?;
                Ok(signature)
            }
            Self::Curve(pair) => {
                let signature = pair.sign(&random, signed);
                let signature = signature.map_err(|error| anyhow!("{error}"))?;
                Ok(signature.as_ref().to_vec())
            }
            Self::Edwards(pair) => Ok(pair.sign(signed).as_ref().to_vec()),
        }
    }
}

/// What the server answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This status and body.
    Text(u16, String),
    /// A redirect to a path of its own, under which it answers 200 with this body.
    Redirect(String),
    /// The head, and then never an end.
    Endless,
    /// Nothing; the connection is closed.
    Nothing,
}

/// A running server. Ends with the process.
#[derive(Debug)]
pub struct Issuer {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    /// Starts a server that publishes nothing yet.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let issuer = Self {
            address: listener.local_addr()?,
            answer: Arc::new(Mutex::new(Answer::Nothing)),
            asked: Arc::default(),
        };
        let (answer, asked) = (Arc::clone(&issuer.answer), Arc::clone(&issuer.asked));
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                asked.fetch_add(1, Ordering::SeqCst);
                let answer = answer
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                // A worker that hangs up meanwhile is what some tests are about.
                thread::spawn(move || drop(respond(connection, &answer)));
            }
        });
        Ok(issuer)
    }

    /// Where the set is.
    pub fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    /// From now on answers this.
    pub fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// From now on publishes these keys.
    pub fn publishes(&self, keys: &[Value]) {
        self.answers(Answer::Text(200, json!({ "keys": keys }).to_string()));
    }

    /// How often it was asked so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn respond(mut connection: TcpStream, answer: &Answer) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let whole = |status, more: &str, body: &str| {
        format!(
            "HTTP/1.1 {status} Any\r\ncontent-length: {}\r\nconnection: close\r\n{more}\r\n{body}",
            body.len()
        )
    };
    match answer {
        Answer::Nothing => {}
        Answer::Text(status, body) => connection.write_all(whole(*status, "", body).as_bytes())?,
        Answer::Redirect(body) if head.starts_with(b"GET /moved ") => {
            connection.write_all(whole(200, "", body).as_bytes())?;
        }
        Answer::Redirect(_) => {
            connection.write_all(whole(302, "location: /moved\r\n", "").as_bytes())?;
        }
        Answer::Endless => {
            connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"keys\":")?;
            thread::sleep(Duration::from_secs(30));
        }
    }
    Ok(())
}
