static bool excused(struct both *b, unsigned aspect)
{
	(void)b; (void)aspect;
	return false;
}
const char *zydis_reason(unsigned i)
{
	(void)i;
	return NULL;
}
