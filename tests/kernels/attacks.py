"""The published collisions of SHA-1, as far as they collide.

SHATTERED: the first 320 bytes of shattered-1.pdf and shattered-2.pdf (M. Stevens and others, "The first collision for
full SHA-1", 2017): 192 bytes in common, two blocks that differ, equal chaining values after them.

SHA_MBLES: the two messages of G. Leurent and T. Peyrin, "SHA-1 is a Shambles", 2020, a chosen-prefix collision.
"""

from base64 import b64decode

SHATTERED = (
    b64decode(
        "JVBERi0xLjMKJeLjz9MKCgoxIDAgb2JqCjw8L1dpZHRoIDIgMCBSL0hlaWdodCAzIDAgUi9UeXBlIDQgMCBSL1N1YnR5cGUgNSAw"
        "IFIvRmlsdGVyIDYgMCBSL0NvbG9yU3BhY2UgNyAwIFIvTGVuZ3RoIDggMCBSL0JpdHNQZXJDb21wb25lbnQgOD4+CnN0cmVhbQr/"
        "2P/+ACRTSEEtMSBpcyBkZWFkISEhISGFL+wJIzl1nDmxocY8TJfh//4Bc0bckWa2fhGPApq2IbJWD/nKZ8yox/hbqEx5AwwrPeIY"
        "+G2zqQkB1d9FwU8m/t+z3DjpasIv571yjw5FvOBG0jxXD+sUE5i7VS71oKgr4zH+pIA3uLXXHw4zLt+TrDUA603cDezBqGR5DHgs"
        "diFWYN0wl5HQa9CvP5jNpLxGKbE="
    ),
    b64decode(
        "JVBERi0xLjMKJeLjz9MKCgoxIDAgb2JqCjw8L1dpZHRoIDIgMCBSL0hlaWdodCAzIDAgUi9UeXBlIDQgMCBSL1N1YnR5cGUgNSAw"
        "IFIvRmlsdGVyIDYgMCBSL0NvbG9yU3BhY2UgNyAwIFIvTGVuZ3RoIDggMCBSL0JpdHNQZXJDb21wb25lbnQgOD4+CnN0cmVhbQr/"
        "2P/+ACRTSEEtMSBpcyBkZWFkISEhISGFL+wJIzl1nDmxocY8TJfh//4Bf0bck6a2fgE7ApqqHbJWC0XKZ9aIx/hLjEx5H+ArPfYU"
        "+G2xaQkBxWtFwVMK/t+3YDjpcnIv561yjw5JBOBGwjBXD+nUE5ir4S71vJQr4zVCpIAtmLXXDyozLsN/rDUU503cDyzBqHTNDHgw"
        "WiFWZGEwl4lga9C/P5jNqARGKaE="
    ),
)

SHA_MBLES = (
    b64decode(
        "mQQNBH/oF4ABIAD/S2V5IGlzIHBhcnQgb2YgYSBjb2xsaXNpb24hIEl0J3MgYSB0cmFwIXnGGvCvzAVFFdknTnMHYksdx/sjmIu4"
        "3otXXbp7nqsxwWdLbZdDeKgncy/1hRx2ouYHcrWkfOHqxAu5k8EtjHDiSk+NX83twbMsnPGeMa8kKXWdQuTf2zFxn1h2I+5VKTm2"
        "3NxFn8pTVTtw+H7eMKJH6jr2x1mi8gsyDXYNtk/0eQhP08yzzdSDYtlqnEMGF8r/bDbGN+U/3ihBf2Jv7FTteUOkbl9XMPK7OPsd"
        "9uAJABDQDiSteL+SZBmTYI6NFYp4nzTEb+HmAn81pMv7gnB2xQ7KDot8ymm7LCt5Aln5v5Vw3Y1EN6MRX6/3w8rAmtJSZgVcJxBH"
        "VReOrv+CWiyqKs+13mTOdkHcWaVBqfycdWdW4uI9xxPIwkyXkKprDjin9V8URSocooUN3ZVi/ZoYrUJJaqlwCPdGcvaO9GHriLCZ"
        "M9YmtPkYdJzAJ/3dbEJfxCFoNdATTRUoW6sst4Sk98u0+1FNS/D2I3zwCp6fEyuaBm5v0X9sQph0eFhv9lGvlnR/tCa5hyuaiOQG"
        "P1m7M0zABlD4OoDEJ1G3GXTTAPwoGaLo8eMsG1HLGOa/xNubrvZ11Kr1sVdKBH+PbdLsFTqTQSKTl02Sj4jO2TY8/vl84udCvzTJ"
        "a47zh1Z2/qXMqOX33qC6skE9TeAO5x7gHxYr220er9kl5q66rmo1TvF88gWkBPvbEvxFTUH92VzyRZZkoq0DLR2mCnMmQHXX8eDW"
        "wUA656DYYd8/5XBxiN1eB9FYm5+LZjBVP4/DUrPgwn2oC926TGQCDQ=="
    ),
    b64decode(
        "mQMNBH/oF4ABGAD/UHJhY3RpY2FsIFNIQS0xIGNob3Nlbi1wcmVmaXggY29sbGlzaW9uIR0nbGumYeEEDh99dn8HYkndx/szLIu4"
        "wrdXXb7Hnqsr4WdLfbNDeLTLcy/hiRx2oCYHcqUQfOH26Au5l30tjGhSSk+dX83tzQssnOGSMa8m6XWdUlDf2y1Nn1hyn+5VMxm2"
        "3Mxhn8pPuTtw7HLeMKCH6jrmc1mi7icyDXKxtk/syQhPw8yzzdg7Ytl6kEMGFQr/bCZyN+Uj4ihBe95v7E7NeUO0Sl9XLB67OO8R"
        "9uALwBDQHpCteKO+ZBmX3I6NDTp4nyTEb+Hqun81tMf7gnK2xQ7auot81lW7LC/FAlnjn5VwzalEN7/9X6/jz8rAmBJSZhXoJxBb"
        "eReOqkOCWjQaKs+l3mTOevncWbVNqfyetWdW8lY9xw/0wkyTLKprFBin9U8wRSoAToUNyZli/ZjYrUJZ3qlwFNtGcvIy9GHzOLCZ"
        "I9YmtPWgdJzQK/3dboJfxDHcNdAPcRUoXxcst56E98uk31FNVxz2I2j8Cp6d0yuaFtpv0WNAQphwxFhv7uGvlmR/tCa1PyuamOgG"
        "P1t7M0zQslD4JrzEJ1ULGXTJIPwoCYbo8f/AG1HfFOa/xhubrubB1KrpnVdKAMOPbcpcFTqDQSKTm/WSj5jC2TY+Pvl88lNCvyj1"
        "a473O1Z25IXMqPXT3qCmXkE9WewO5xwgHxY7b20es/Ul5qoGrmot/vF84gWkBPdjEvxVQUH925zyRYbQoq0fER2mDs8mQG/38eDG"
        "5UA6+0zYYcsz5XBzSN1eF2VYm4OnZjBRg4/DSgPgwm2oC9229GQCHQ=="
    ),
)
