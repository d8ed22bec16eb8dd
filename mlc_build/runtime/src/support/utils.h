// Included by the tensor cache, which uses nothing of it.
#pragma once
