/* SPDX-License-Identifier: BSD-2-Clause */
#include "frame.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"

static const uint8_t magic[8] = { 0x44, 0x45, 0x52, 0x50, 0xf0, 0x9f, 0x94, 0x91 };	/* DERP🔑 */

bool frame_server_key(const uint8_t *p, size_t len, uint8_t server[static 32])
{
	if (len < sizeof(magic) + 32 || memcmp(p, magic, sizeof(magic)))
		return false;
	memcpy(server, p + sizeof(magic), 32);
	return true;
}

size_t frame_client_info(uint8_t out[static FRAME_CLIENT_INFO_MAX], const uint8_t pub[static 32],
			 const uint8_t priv[static 32], const uint8_t server[static 32],
			 const char *mesh_key, bool can_ack_pings)
{
	uint8_t *nonce = out + 32, *box = nonce + crypto_box_NONCEBYTES;
	char json[FRAME_MESH_KEY_MAX + 96];
	int n;

	/* The order and spelling are those of tailscale's client, so lengths are too. */
	n = snprintf(json, sizeof(json), "{%s%s%s\"version\":2,\"CanAckPings\":%s}",
		     mesh_key ? "\"meshKey\":\"" : "", mesh_key ? mesh_key : "",
		     mesh_key ? "\"," : "", can_ack_pings ? "true" : "false");
	if (n < 0 || (size_t)n >= sizeof(json))
		return 0;
	memcpy(out, pub, 32);
	randombytes_buf(nonce, crypto_box_NONCEBYTES);
	if (crypto_box_easy(box, (uint8_t *)json, n, nonce, server, priv))
		return 0;
	return 32 + crypto_box_NONCEBYTES + crypto_box_MACBYTES + n;
}

bool frame_server_info(const uint8_t *p, size_t len, const uint8_t priv[static 32],
		       const uint8_t server[static 32])
{
	uint8_t *json;
	bool ok;

	if (len < crypto_box_NONCEBYTES + crypto_box_MACBYTES)
		return false;
	json = mem_zero(len, 1);
	ok = !crypto_box_open_easy(json, p + crypto_box_NONCEBYTES, len - crypto_box_NONCEBYTES, p,
				   server, priv);
	free(json);
	return ok;
}
