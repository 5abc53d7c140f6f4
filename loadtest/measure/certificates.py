"""The one certificate that every proxy shows: ECDSA P-256, by itself."""

import subprocess

NAME = "localhost"


def make(directory):
    """Writes tls.pem, tls.key, and both in one file as HAProxy wants them."""
    cert, key = directory / "tls.pem", directory / "tls.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "30", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
                    "-keyout", key, "-out", cert], check=True, capture_output=True)
    both = directory / "tls.both.pem"
    both.write_text(cert.read_text() + key.read_text())
    for path in (key, both):
        path.chmod(0o644)  # nginx's worker may be of another user
    return cert


def words(directory, port):
    """What the configurations of loadtest/peers/ say of TLS, each in its own way. TLS 1.3 alone: all clients of a
    comparison choose the same cipher then."""
    cert, key = directory / "tls.pem", directory / "tls.key"
    return {
        "NGINX_TLS": f"listen 127.0.0.1:{port} ssl http2; ssl_certificate {cert}; ssl_certificate_key {key}; "
                     "ssl_protocols TLSv1.3; ssl_session_cache shared:tls:10m; ssl_session_timeout 1h;",
        "HAPROXY_TLS": f"bind 127.0.0.1:{port} ssl crt {directory / 'tls.both.pem'} alpn h2,http/1.1 "
                       "ssl-min-ver TLSv1.3",
        "ENVOY_TLS": ENVOY.format(port=port, cert=cert, key=key),
        "POINTSMAN_TLS": f"- {{ address: 127.0.0.1:{port}, tls: {{ certificates: [{{ cert: {cert}, key: {key} }}], "
                         "min_version: \"1.3\" } }",
    }


NONE = {"NGINX_TLS": "", "HAPROXY_TLS": "", "ENVOY_TLS": "", "POINTSMAN_TLS": ""}

ENVOY = """\
- address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
      filter_chains:
        - transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              common_tls_context:
                alpn_protocols: [h2, http/1.1]
                tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }}
                tls_certificates:
                  - {{ certificate_chain: {{ filename: {cert} }}, private_key: {{ filename: {key} }} }}
          filters: *filters"""
