/*
 * TLS 1.3 for hitload: OpenSSL shakes hands and encrypts the requests; of what comes back only the records that an
 * answer's head is in are decrypted, with the key that OpenSSL logs. Those of the body are counted by their lengths,
 * so that the client's core is not the limit before the server's is.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>

enum {
    RECORD_HEADER_BYTES = 5,
    RECORD_BYTES_MAX = 16384 + 256,
    TAG_BYTES = 16,
    IV_BYTES = 12,
    APPLICATION_DATA = 23,
};

struct tls {
    SSL *ssl;
    EVP_CIPHER_CTX *cipher; /* with the server's key for application data */
    unsigned char iv[IV_BYTES];
    uint64_t sequence;
    int header_size, record_size, record_left;
    unsigned char header[RECORD_HEADER_BYTES];
    unsigned char record[RECORD_BYTES_MAX];
};

static SSL_CTX *tls_context;
static char tls_name[256];
static unsigned char tls_secret[EVP_MAX_MD_SIZE]; /* of the handshake just made */

static void tls_fail(const char *what)
{
    fprintf(stderr, "%s over TLS failed\n", what);
    exit(1);
}

/* A line of the key log is a label, the client's random and the secret, in hexadecimal. */
static void tls_log_key(const SSL *ssl, const char *line)
{
    (void)ssl;
    if (strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) != 0)
        return;
    const char *digit = strrchr(line, ' ') + 1;
    for (size_t i = 0; i < sizeof tls_secret && sscanf(digit + 2 * i, "%2hhx", &tls_secret[i]) == 1; i++)
        ;
}

/* HKDF-Expand-Label of RFC 8446, section 7.1, with no context and for no more than one hash's length. */
static void tls_expand(const EVP_MD *digest, const char *label, unsigned char *key, int key_bytes)
{
    unsigned char info[64], expanded[EVP_MAX_MD_SIZE];
    int size = snprintf((char *)info + 3, sizeof info - 3, "tls13 %s", label);
    info[0] = 0;
    info[1] = (unsigned char)key_bytes;
    info[2] = (unsigned char)size;
    info[3 + size] = 0;
    info[4 + size] = 1;
    if (!HMAC(digest, tls_secret, EVP_MD_get_size(digest), info, (size_t)size + 5, expanded, NULL))
        tls_fail("deriving keys");
    memcpy(key, expanded, (size_t)key_bytes);
}

static void tls_start(void)
{
    tls_context = SSL_CTX_new(TLS_client_method());
    /* what a browser prefers */
    if (!tls_context || !SSL_CTX_set_min_proto_version(tls_context, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(tls_context,
                                  "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"))
        tls_fail("setting up");
    SSL_CTX_set_keylog_callback(tls_context, tls_log_key);
}

static void tls_dial(struct tls *tls, int fd)
{
    unsigned char key[EVP_MAX_KEY_LENGTH];
    static const unsigned char alpn[] = "\x08http/1.1";
    SSL_free(tls->ssl);
    tls->ssl = SSL_new(tls_context);
    if (!tls->ssl || !SSL_set_fd(tls->ssl, fd) || SSL_set_alpn_protos(tls->ssl, alpn, sizeof alpn - 1) ||
        (tls_name[0] && !SSL_set_tlsext_host_name(tls->ssl, tls_name)) || SSL_connect(tls->ssl) != 1)
        tls_fail("the handshake");
    const SSL_CIPHER *suite = SSL_get_current_cipher(tls->ssl);
    const EVP_MD *digest = SSL_CIPHER_get_handshake_digest(suite);
    const EVP_CIPHER *cipher = EVP_get_cipherbynid(SSL_CIPHER_get_cipher_nid(suite));
    tls_expand(digest, "key", key, EVP_CIPHER_get_key_length(cipher));
    tls_expand(digest, "iv", tls->iv, IV_BYTES);
    if (!tls->cipher)
        tls->cipher = EVP_CIPHER_CTX_new();
    if (!tls->cipher || !EVP_DecryptInit_ex(tls->cipher, cipher, NULL, key, NULL))
        tls_fail("taking the key");
    tls->sequence = 0;
    tls->header_size = 0;
}

/* Decrypts the record in place; the bytes of application data in it, 0 where it carries something else. */
static int tls_open(struct tls *tls)
{
    unsigned char iv[IV_BYTES];
    int size, end, encrypted = tls->record_size - TAG_BYTES;
    memcpy(iv, tls->iv, sizeof iv);
    for (int i = 0; i < 8; i++)
        iv[IV_BYTES - 1 - i] ^= (unsigned char)(tls->sequence >> (8 * i));
    if (encrypted <= 0 || !EVP_DecryptInit_ex(tls->cipher, NULL, NULL, NULL, iv) ||
        !EVP_CIPHER_CTX_ctrl(tls->cipher, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, tls->record + encrypted) ||
        !EVP_DecryptUpdate(tls->cipher, NULL, &size, tls->header, RECORD_HEADER_BYTES) ||
        !EVP_DecryptUpdate(tls->cipher, tls->record, &size, tls->record, encrypted) ||
        EVP_DecryptFinal_ex(tls->cipher, tls->record + size, &end) != 1)
        tls_fail("opening a record");
    while (size > 0 && !tls->record[size - 1]) /* padding */
        size--;
    return size > 0 && tls->record[size - 1] == APPLICATION_DATA ? size - 1 : 0;
}

/* Moves `*bytes` on behind as much of one record as is there; whether the record is complete. Its bytes are kept where
 * `keeps` says so. */
static int tls_take(struct tls *tls, const unsigned char **bytes, const unsigned char *end, int keeps)
{
    while (tls->header_size < RECORD_HEADER_BYTES && *bytes < end) {
        tls->header[tls->header_size++] = *(*bytes)++;
        if (tls->header_size == RECORD_HEADER_BYTES) {
            tls->record_left = tls->header[3] << 8 | tls->header[4];
            tls->record_size = 0;
            if (tls->header[0] != APPLICATION_DATA || tls->record_left > RECORD_BYTES_MAX)
                tls_fail("reading a record");
        }
    }
    if (tls->header_size < RECORD_HEADER_BYTES)
        return 0;
    int size = end - *bytes < tls->record_left ? (int)(end - *bytes) : tls->record_left;
    if (keeps)
        memcpy(tls->record + tls->record_size, *bytes, (size_t)size);
    *bytes += size;
    tls->record_size += size;
    tls->record_left -= size;
    if (tls->record_left)
        return 0;
    tls->header_size = 0;
    return 1;
}
