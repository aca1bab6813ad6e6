"""Who asks, and what may they do? Credentials to a `Principal`, a principal and a repository's name to a `Level`.

In this order:

    principal         the values: Principal, Level, what failed
    watched           a file that is read again when it changes; a broken new version keeps the old one
    authenticator     the Authorization header, and whom it is given to
    passwords         htpasswd (its syntax), hashes (bcrypt, argon2), gate (how many at once), passwords
    tokens            access tokens: their form and their check; token_file: the file that holds them
    jwt               bearer tokens signed by somebody else; jwks: their keys; claims: whose they are
    introspection     opaque bearer tokens, asked about at their issuer
    permissions       the policy: levels of repositories; branches: rules of refs; permission_file: their syntax
    options           the settings of all this, checked before anything starts

Nothing here knows WSGI or a repository's files. `web` asks who it is, `service` asks what it may do. hashes, jwt,
jwks and introspection need libraries that are optional (`pip install govc[auth]`); `app` imports them when they are
configured.
"""
