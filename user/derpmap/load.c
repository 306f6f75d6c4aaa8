/* SPDX-License-Identifier: BSD-2-Clause */
/* A map from a file or standard input, and the look-ups in a map that was read. */
#include "derpmap/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static const char *errno_text(int error)
{
	return error == E2BIG ? "larger than 64 MiB" : strerror(error);
}

static const char *errno_advice(int error)
{
	switch (error) {
	case ENOENT:
		return "check the path";
	case EACCES:
	case EPERM:
		return "read it as a user who may, or through \"-\"";
	case EISDIR:
		return "name the file inside";
	case E2BIG:
		return "a DERP map has far less: is it the right file?";
	default:
		return "is the file system in order?";
	}
}

/* All of fd, at most one byte over the bound. */
static int read_all(int fd, char **bytes, size_t *len)
{
	size_t room = 1 << 16, used = 0;
	char *buffer = malloc(room), *grown;
	ssize_t got;

	if (!buffer)
		return -ENOMEM;
	for (;;) {
		got = read(fd, buffer + used, room - used);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		used += (size_t)got;
		if (used > DERPMAP_MAX_BYTES) {
			errno = E2BIG;
			got = -1;
			break;
		}
		if (used < room)
			continue;
		grown = realloc(buffer, room * 2);
		if (!grown) {
			errno = ENOMEM;
			got = -1;
			break;
		}
		buffer = grown;
		room *= 2;
	}
	if (got < 0) {
		int error = errno;

		free(buffer);
		return -error;
	}
	*bytes = buffer;
	*len = used;
	return 0;
}

int derpmap_load(const char *path, struct derpmap **map, struct derpmap_error *err)
{
	bool standard = strcmp(path, "-") == 0;
	const char *name = standard ? "standard input" : path;
	char *bytes = NULL, *shown;
	size_t len = 0;
	int fd, ret;

	memset(err, 0, sizeof(*err));
	fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	ret = fd < 0 ? -errno : read_all(fd, &bytes, &len);
	if (!standard && fd >= 0)
		close(fd);
	if (ret) {
		shown = derpmap_escape(name);
		snprintf(err->message, sizeof(err->message), "%.256s: cannot be read: %s; %s",
			 shown ? shown : "DERP map", errno_text(-ret), errno_advice(-ret));
		free(shown);
		return ret;
	}
	ret = derpmap_parse(bytes, len, name, map, err);
	free(bytes);
	return ret;
}

const struct derpmap_node *derpmap_next_node(const struct derpmap *map,
					     const struct derpmap_node *node)
{
	const struct derpmap_region *region = map->regions, *end = map->regions + map->nr_regions;

	if (node) {
		region = node->region;
		if (node + 1 < region->nodes + region->nr_nodes)
			return node + 1;
		region++;
	}
	for (; region < end; region++)
		if (region->nr_nodes)
			return region->nodes;
	return NULL;
}

const struct derpmap_region *derpmap_find_region(const struct derpmap *map, int64_t id)
{
	size_t i;

	for (i = 0; i < map->nr_regions; i++)
		if (map->regions[i].id == id)
			return &map->regions[i];
	return NULL;
}

/* A name as DNS compares it: without the final dot. */
static size_t name_len(const char *name)
{
	size_t len = strlen(name);

	return len > 1 && name[len - 1] == '.' ? len - 1 : len;
}

static bool name_equal(const char *a, const char *b)
{
	size_t len = name_len(a);

	return len && len == name_len(b) && strncasecmp(a, b, len) == 0;
}

static bool text_is_address(const char *text, const struct in6_addr *address)
{
	struct in6_addr other;

	return derpmap_address_parse(text, &other) && memcmp(&other, address, sizeof(other)) == 0;
}

const struct derpmap_node *derpmap_find_node_by_host(const struct derpmap *map,
						     const char *hostname)
{
	const struct derpmap_node *node = NULL;
	struct in6_addr address;
	bool literal = derpmap_address_parse(hostname, &address);

	while ((node = derpmap_next_node(map, node)))
		if (!node->stun_only && (literal ? text_is_address(node->hostname, &address) :
						   name_equal(node->hostname, hostname)))
			return node;
	return NULL;
}

const struct derpmap_node *derpmap_find_node_by_address(const struct derpmap *map,
							const char *text, uint16_t port)
{
	const struct derpmap_node *node = NULL;
	struct in6_addr address;
	bool literal = derpmap_address_parse(text, &address);

	while ((node = derpmap_next_node(map, node))) {
		if (node->stun_only || (port && node->derp_port != port))
			continue;
		if (literal ? text_is_address(node->ipv4, &address) ||
			      text_is_address(node->ipv6, &address) ||
			      text_is_address(node->hostname, &address) :
			      name_equal(node->hostname, text))
			return node;
	}
	return NULL;
}
